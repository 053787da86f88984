//! An open disk: the flash, the thread that keeps its house, and the front end that serves it.
//!
//! Invariants: the modules are written by one flash at a time; closing first stops whoever could
//! still ask for something, then flushes, then has the newest root anchored.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use flash::{Error, FileMedium, Flash, Geometry, OpenError, Options, Status, Verified};

use crate::device::BlockDevice;
use crate::request::FrontKind;
use crate::vault_link::VaultLink;
use crate::waker::Waker;
use crate::{nbd, virtio};

/// How often the flash keeps its house.
pub const TICK: Duration = Duration::from_millis(100);
/// How long a front end may take to end before the disk is closed under it.
pub const FRONT_END_TIME: Duration = Duration::from_secs(5);

type OpenFlash = Flash<FileMedium, VaultLink>;

/// An open disk.
pub struct Disk {
    flash: Arc<OpenFlash>,
    housekeeping: Option<Housekeeping>,
    front: Option<(FrontKind, Front)>,
}

enum Front {
    Nbd(nbd::Front),
    Virtio(virtio::Front),
}

struct Housekeeping {
    waker: Arc<Waker>,
    thread: JoinHandle<()>,
}

/// Makes a new, empty disk of what the two modules hold.
///
/// # Errors
/// As [`flash::format`].
pub fn format(
    modules: [OwnedFd; 2],
    vault: &VaultLink,
    capacity_bytes: u64,
) -> Result<(), OpenError> {
    let key = vault
        .volume_key()
        .map_err(|error| OpenError::Vault(error.into()))?;
    let medium = FileMedium::new(modules);
    flash::format(&medium, vault, &key, Geometry::for_capacity(capacity_bytes))
}

impl Disk {
    /// Opens what the two modules hold; with `adopt` without an anchor, which the vault has to have
    /// allowed.
    ///
    /// # Errors
    /// As [`Flash::open`] or [`Flash::adopt`].
    pub fn open(
        modules: [OwnedFd; 2],
        vault: &VaultLink,
        strict: bool,
        adopt: bool,
    ) -> Result<Disk, OpenError> {
        let key = vault
            .volume_key()
            .map_err(|error| OpenError::Vault(error.into()))?;
        let options = Options {
            strict,
            ..Options::default()
        };
        let medium = FileMedium::new(modules);
        let flash = Arc::new(if adopt {
            Flash::adopt(medium, vault.clone(), key, options)?
        } else {
            Flash::open(medium, vault.clone(), key, options)?
        });
        let housekeeping = Housekeeping::start(flash.clone()).map_err(OpenError::Storage)?;
        Ok(Disk {
            flash,
            housekeeping: Some(housekeeping),
            front: None,
        })
    }

    /// The flash itself.
    pub fn capacity_bytes(&self) -> u64 {
        self.flash.capacity_bytes()
    }

    /// Whether it had not been closed.
    pub fn recovered(&self) -> bool {
        self.flash.recovered()
    }

    /// Whether it was adopted without all of its newest state.
    pub fn incomplete(&self) -> bool {
        self.flash.incomplete()
    }

    /// How it is.
    pub fn status(&self) -> Status {
        self.flash.status()
    }

    /// Reads and authenticates some blocks.
    ///
    /// # Errors
    /// As [`Flash::verify`].
    pub fn verify(&self, block: u64, count: u64) -> Result<Verified, Error> {
        self.flash.verify(block, count)
    }

    /// How it is served, if it is.
    pub fn front(&self) -> Option<FrontKind> {
        self.front.as_ref().map(|(kind, _)| *kind)
    }

    /// Serves it on a listening socket.
    ///
    /// # Errors
    /// When the host gives no thread or no descriptor.
    pub fn serve(&mut self, kind: FrontKind, listener: OwnedFd) -> io::Result<()> {
        let device: Arc<dyn BlockDevice> = self.flash.clone();
        let front = match kind {
            FrontKind::Nbd => Front::Nbd(nbd::Front::start(device, listener)?),
            FrontKind::VhostUserBlk => Front::Virtio(virtio::Front::start(device, listener)?),
        };
        self.front = Some((kind, front));
        Ok(())
    }

    /// Stops serving and closes it; afterwards it is closed, however that went.
    ///
    /// # Errors
    /// As [`Flash::stop`]: the next opening will be one after a power cut.
    pub fn close(mut self) -> Result<(), Error> {
        if let Some((_, front)) = self.front.take() {
            end_in_time(front);
        }
        if let Some(housekeeping) = self.housekeeping.take() {
            housekeeping.end();
        }
        self.flash.stop()
    }
}

/// A client could hold its own front end up, but not the disk.
fn end_in_time(front: Front) {
    let (ended, end) = mpsc::channel::<()>();
    let thread = std::thread::Builder::new().name("end".into());
    let started = thread.spawn(move || {
        match front {
            Front::Nbd(front) => drop(front),
            Front::Virtio(front) => drop(front),
        }
        drop(ended);
    });
    if started.is_ok() {
        // Returns when the other end is dropped, or the time is up.
        let _ = end.recv_timeout(FRONT_END_TIME);
    }
}

impl Housekeeping {
    fn start(flash: Arc<OpenFlash>) -> io::Result<Housekeeping> {
        let waker = Arc::new(Waker::new()?);
        let thread = std::thread::Builder::new().name("housekeeping".into());
        let thread = thread.spawn({
            let waker = waker.clone();
            move || {
                while !waker.woken_within(TICK) {
                    flash.tick();
                }
            }
        })?;
        Ok(Housekeeping { waker, thread })
    }

    fn end(self) {
        self.waker.wake();
        let _ = self.thread.join();
    }
}
