//! AES-256-GCM as the format uses it, and the keys derived from the volume key.
//!
//! AWS-LC, because it measured fastest (docs/performance.md); its bare AEAD interface, because
//! the safe one keeps 16 bytes of tag only, and an index entry has room for 12.

use std::ptr::NonNull;

use aws_lc_rs::{hkdf, hmac};
use zeroize::Zeroizing;

use crate::layout::{Slot, TAG_BYTES, Tag};

/// Bytes of the volume key and of every key derived from it.
pub const KEY_BYTES: usize = 32;
/// Bytes of a session's salt.
pub const SALT_BYTES: usize = 32;
/// Bytes of a pairing or module identity.
pub const IDENTITY_BYTES: usize = 16;
/// Bytes of the header's MAC.
pub const MAC_BYTES: usize = 32;

/// Bytes of a nonce.
pub const NONCE_BYTES: usize = 12;
const HEADER_INFO: &[u8] = b"spacegray flash header 1";
const SESSION_INFO: &[u8] = b"spacegray flash session 1";

/// The cryptographic library failed; it does so for lack of memory at most.
#[derive(Debug)]
pub struct CipherFailed;

/// What a sealed slot is; bound to it as associated data together with a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A block of the guest; its number is the block's.
    Data = 0,
    /// The lowest index nodes.
    Leaf = 1,
    /// The nodes above them.
    Middle = 2,
    /// A piece of a checkpoint's body.
    Piece = 3,
    /// A record; its number is 0, for who looks for it may not know its sequence.
    Record = 4,
    /// A superblock; its number is 0.
    Superblock = 5,
}

/// The key of one disk, from the vault. Wiped when dropped.
pub struct VolumeKey(Zeroizing<[u8; KEY_BYTES]>);

impl VolumeKey {
    /// Takes the key over.
    #[must_use]
    pub fn new(bytes: Zeroizing<[u8; KEY_BYTES]>) -> VolumeKey {
        VolumeKey(bytes)
    }

    /// The MAC of a module's header.
    pub(crate) fn header_mac(
        &self,
        pairing: &[u8; IDENTITY_BYTES],
        bytes: &[u8],
    ) -> Result<[u8; MAC_BYTES], CipherFailed> {
        let key = self.derive(pairing, HEADER_INFO)?;
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key[..]), bytes);
        tag.as_ref().try_into().map_err(|_| CipherFailed)
    }

    /// Whether `mac` is the MAC of a header; takes the same time whatever it holds.
    pub(crate) fn header_mac_is(
        &self,
        pairing: &[u8; IDENTITY_BYTES],
        bytes: &[u8],
        mac: &[u8],
    ) -> Result<bool, CipherFailed> {
        let key = self.derive(pairing, HEADER_INFO)?;
        Ok(hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, &key[..]), bytes, mac).is_ok())
    }

    /// The cipher of the session with this salt.
    pub(crate) fn session(&self, salt: &[u8; SALT_BYTES]) -> Result<Cipher, CipherFailed> {
        let key = self.derive(salt, SESSION_INFO)?;
        Cipher::new(&key)
    }

    /// HKDF-SHA-256 (RFC 5869).
    fn derive(&self, salt: &[u8], info: &[u8]) -> Result<Zeroizing<[u8; KEY_BYTES]>, CipherFailed> {
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        hkdf::Salt::new(hkdf::HKDF_SHA256, salt)
            .extract(&self.0[..])
            .expand(&[info], hkdf::HKDF_SHA256)
            .and_then(|expanded| expanded.fill(&mut key[..]))
            .map_err(|_| CipherFailed)?;
        Ok(key)
    }
}

/// Fresh random bytes from the operating system.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], CipherFailed> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| CipherFailed)?;
    Ok(bytes)
}

/// AES-256-GCM under one key, its schedule kept. Wiped when dropped.
pub struct Cipher {
    context: NonNull<aws_lc_sys::EVP_AEAD_CTX>,
}

// SAFETY: the context is plain memory owned by this value alone; it belongs to no thread.
unsafe impl Send for Cipher {}
// SAFETY: after its making the context is only read: AWS-LC's aead.h says of seal and open that
// they "may be called concurrently with [themselves] or any other seal/open function on the same
// EVP_AEAD_CTX", and AES-GCM keeps no state in it.
unsafe impl Sync for Cipher {}

impl Cipher {
    /// The cipher under `key`.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub fn new(key: &[u8; KEY_BYTES]) -> Result<Cipher, CipherFailed> {
        // SAFETY: the key is read for the given length during the call; AWS-LC takes any tag
        // length up to 16 for this cipher, and returns null when it cannot make a context.
        let context = unsafe {
            aws_lc_sys::EVP_AEAD_CTX_new(
                aws_lc_sys::EVP_aead_aes_256_gcm(),
                key.as_ptr(),
                key.len(),
                TAG_BYTES,
            )
        };
        NonNull::new(context)
            .map(|context| Cipher { context })
            .ok_or(CipherFailed)
    }

    /// Encrypts `plain` for a slot into `sealed`, which has the same length; returns the tag.
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn seal(&self, at: Place, kind: Kind, number: u64, plain: &[u8], sealed: &mut [u8]) -> Tag {
        self.seal_bytes(&at.nonce(), &associated_data(kind, number), plain, sealed)
    }

    /// Decrypts what [`Cipher::seal`] made into `plain`, which has the same length; false when a
    /// byte of it, its tag, place, kind or number is another. `plain` then holds zeros.
    ///
    /// # Panics
    /// When the lengths differ.
    #[must_use]
    pub fn open(
        &self,
        at: Place,
        kind: Kind,
        number: u64,
        sealed: &[u8],
        tag: &Tag,
        plain: &mut [u8],
    ) -> bool {
        let data = associated_data(kind, number);
        self.open_bytes(&at.nonce(), &data, sealed, tag, plain)
    }

    /// [`Cipher::seal`] under any nonce and associated data, as published vectors have them.
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn seal_bytes(
        &self,
        nonce: &[u8; NONCE_BYTES],
        data: &[u8],
        plain: &[u8],
        sealed: &mut [u8],
    ) -> Tag {
        assert_eq!(plain.len(), sealed.len());
        let mut tag = [0; TAG_BYTES];
        let mut tag_bytes = 0;
        // SAFETY: every pointer goes with the length of the slice it comes from; `sealed` is at
        // least as long as `plain` (asserted) and does not overlap it, being borrowed mutably;
        // the context lives as long as `self`.
        let done = unsafe {
            aws_lc_sys::EVP_AEAD_CTX_seal_scatter(
                self.context.as_ptr(),
                sealed.as_mut_ptr(),
                tag.as_mut_ptr(),
                &raw mut tag_bytes,
                tag.len(),
                nonce.as_ptr(),
                nonce.len(),
                plain.as_ptr(),
                plain.len(),
                std::ptr::null(),
                0,
                data.as_ptr(),
                data.len(),
            )
        };
        // It fails only for wrong lengths, and a slot's are constants.
        assert!(
            done == 1 && tag_bytes == TAG_BYTES,
            "AES-GCM refused to seal"
        );
        tag
    }

    /// [`Cipher::open`] under any nonce and associated data.
    ///
    /// # Panics
    /// When the lengths differ.
    #[must_use]
    pub fn open_bytes(
        &self,
        nonce: &[u8; NONCE_BYTES],
        data: &[u8],
        sealed: &[u8],
        tag: &Tag,
        plain: &mut [u8],
    ) -> bool {
        assert_eq!(plain.len(), sealed.len());
        // SAFETY: as in `seal_bytes`; the lengths are equal (asserted), the buffers apart.
        let done = unsafe {
            aws_lc_sys::EVP_AEAD_CTX_open_gather(
                self.context.as_ptr(),
                plain.as_mut_ptr(),
                nonce.as_ptr(),
                nonce.len(),
                sealed.as_ptr(),
                sealed.len(),
                tag.as_ptr(),
                tag.len(),
                data.as_ptr(),
                data.len(),
            )
        };
        if done != 1 {
            plain.fill(0);
        }
        done == 1
    }
}

impl Drop for Cipher {
    fn drop(&mut self) {
        // SAFETY: the context came from EVP_AEAD_CTX_new and is freed once; AWS-LC wipes what it
        // frees.
        unsafe { aws_lc_sys::EVP_AEAD_CTX_free(self.context.as_ptr()) }
    }
}

/// A slot during one opening of its segment: sealed at most once under a session's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Which opening of the segment.
    pub generation: u32,
    /// The slot.
    pub slot: Slot,
}

impl Place {
    fn nonce(self) -> [u8; NONCE_BYTES] {
        let mut nonce = [0; NONCE_BYTES];
        nonce[..8].copy_from_slice(&u64::from(self.generation).to_le_bytes());
        nonce[8..].copy_from_slice(&self.slot.to_le_bytes());
        nonce
    }
}

fn associated_data(kind: Kind, number: u64) -> [u8; 9] {
    let mut data = [kind as u8; 9];
    data[1..].copy_from_slice(&number.to_le_bytes());
    data
}
