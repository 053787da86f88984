//! What the SSD needs of the vault: the key of its modules, and a memory for the newest root.
//!
//! Invariant: the vault gives the key once per link, so it is kept here for the life of the
//! process, wiped at its end.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use flash::{Anchors, VolumeKey};
use wire::Link;
use wire::vault::{Client, ClientError, Remembered, VOLUME_KEY_SIZE_BYTES};
use zeroize::Zeroizing;

/// The link, shared by those who use it.
#[derive(Clone)]
pub struct VaultLink {
    shared: Arc<Mutex<Shared>>,
}

struct Shared {
    client: Client,
    key: Option<Zeroizing<[u8; VOLUME_KEY_SIZE_BYTES]>>,
}

impl VaultLink {
    /// Takes the link as it came from the firmware.
    pub fn new(link: Link) -> VaultLink {
        VaultLink {
            shared: Arc::new(Mutex::new(Shared {
                client: Client::new(link),
                key: None,
            })),
        }
    }

    /// The volume key.
    ///
    /// # Errors
    /// When the vault refused, or is gone.
    pub fn volume_key(&self) -> Result<VolumeKey, ClientError> {
        let mut shared = self.lock();
        let key = match shared.key.take() {
            Some(key) => key,
            None => shared.client.volume_key()?,
        };
        let key = shared.key.insert(key);
        Ok(VolumeKey::new(key.clone()))
    }

    /// Whether the vault allows whatever state the modules are in.
    ///
    /// # Errors
    /// When the vault refused, or is gone.
    pub fn allows_adoption(&self) -> Result<bool, ClientError> {
        Ok(self.lock().client.read_anchor()? == Remembered::Adopt)
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(|lock| lock.into_inner())
    }
}

impl Anchors for VaultLink {
    fn load(&self) -> io::Result<Option<Vec<u8>>> {
        Ok(match self.lock().client.read_anchor()? {
            Remembered::Anchor(anchor) => Some(anchor),
            // To an ordinary opening an allowed adoption is no anchor.
            Remembered::Nothing | Remembered::Adopt => None,
        })
    }

    fn store(&self, sequence: u64, anchor: &[u8]) -> io::Result<()> {
        Ok(self.lock().client.write_anchor(sequence, anchor)?)
    }
}
