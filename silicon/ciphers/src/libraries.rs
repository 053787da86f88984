//! The candidates behind one face. All seal in place, under a context made once.

use std::ptr;

use aes_gcm::aead::consts::U12;
use aes_gcm::{AeadInPlace, AesGcm, KeyInit, aes::Aes256};
use aws_lc_sys as lc;

/// One way to seal and open a block. `tag` is 16 bytes, of which a shorter one uses the first.
pub trait Cipher {
    /// Library, and how it is called.
    fn name(&self) -> &'static str;
    /// Encrypt `block` in place, its tag into `tag`.
    fn seal(&mut self, nonce: &[u8; 12], data: &[u8], block: &mut [u8], tag: &mut [u8; 16]);
    /// Decrypt `block` in place; false when it is not what was sealed.
    fn open(&mut self, nonce: &[u8; 12], data: &[u8], block: &mut [u8], tag: &[u8; 16]) -> bool;
}

/// All candidates, under `key`.
pub fn all(key: &[u8; 32]) -> Vec<Box<dyn Cipher>> {
    vec![
        Box::new(AwsLcRs(aws_lc_rs::aead::LessSafeKey::new(
            aws_lc_rs::aead::UnboundKey::new(&aws_lc_rs::aead::AES_256_GCM, key).unwrap(),
        ))),
        Box::new(AwsLcSys::new(key, 12)),
        Box::new(AwsLcSys::new(key, 16)),
        Box::new(Ring(ring::aead::LessSafeKey::new(
            ring::aead::UnboundKey::new(&ring::aead::AES_256_GCM, key).unwrap(),
        ))),
        Box::new(RustCrypto(AesGcm::new(key.into()))),
    ]
}

/// Seal the same block with each: they must agree on cipher text and tag (its first 12 bytes).
pub fn reference(ciphers: &mut [Box<dyn Cipher>], plain: &[u8]) -> &'static str {
    let mut seen: Option<(Vec<u8>, [u8; 12])> = None;
    for cipher in ciphers {
        let (mut block, mut tag) = (plain.to_vec(), [0; 16]);
        cipher.seal(&[7; 12], b"kind+number", &mut block, &mut tag);
        let result = (block, *tag.first_chunk().unwrap());
        assert!(
            *seen.get_or_insert(result.clone()) == result,
            "{} differs",
            cipher.name()
        );
        let mut block = result.0;
        block[100] ^= 1;
        assert!(
            !cipher.open(&[7; 12], b"kind+number", &mut block, &tag),
            "a forgery opened"
        );
    }
    "all agree on cipher text and tag"
}

struct AwsLcRs(aws_lc_rs::aead::LessSafeKey);

impl Cipher for AwsLcRs {
    fn name(&self) -> &'static str {
        "aws-lc-rs, 16-byte tag (safe API)"
    }

    fn seal(&mut self, nonce: &[u8; 12], data: &[u8], block: &mut [u8], tag: &mut [u8; 16]) {
        use aws_lc_rs::aead::{Aad, Nonce};
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let sealed = self
            .0
            .seal_in_place_separate_tag(nonce, Aad::from(data), block)
            .unwrap();
        tag.copy_from_slice(sealed.as_ref());
    }

    fn open(&mut self, nonce: &[u8; 12], data: &[u8], block: &mut [u8], tag: &[u8; 16]) -> bool {
        use aws_lc_rs::aead::{Aad, Nonce};
        let nonce = Nonce::assume_unique_for_key(*nonce);
        self.0
            .open_in_place_separate_tag(nonce, Aad::from(data), tag, block)
            .is_ok()
    }
}

/// EVP_AEAD of AWS-LC with a context that is kept, and a tag as short as asked for.
struct AwsLcSys {
    context: *mut lc::EVP_AEAD_CTX,
    tag_bytes: usize,
}

impl AwsLcSys {
    fn new(key: &[u8; 32], tag_bytes: usize) -> Self {
        // SAFETY: `key` is as long as said; the context is freed in `drop`.
        let context = unsafe {
            lc::EVP_AEAD_CTX_new(
                lc::EVP_aead_aes_256_gcm(),
                key.as_ptr(),
                key.len(),
                tag_bytes,
            )
        };
        assert!(!context.is_null(), "AWS-LC made no context");
        Self { context, tag_bytes }
    }
}

impl Drop for AwsLcSys {
    fn drop(&mut self) {
        // SAFETY: made by EVP_AEAD_CTX_new and freed nowhere else.
        unsafe { lc::EVP_AEAD_CTX_free(self.context) }
    }
}

impl Cipher for AwsLcSys {
    fn name(&self) -> &'static str {
        match self.tag_bytes {
            12 => "aws-lc-sys EVP_AEAD, 12-byte tag, kept context",
            _ => "aws-lc-sys EVP_AEAD, 16-byte tag, kept context",
        }
    }

    fn seal(&mut self, nonce: &[u8; 12], data: &[u8], block: &mut [u8], tag: &mut [u8; 16]) {
        let mut written = 0;
        // SAFETY: all pointers go with the lengths of their slices; in and out are the same
        // buffer, which the function allows.
        let done = unsafe {
            lc::EVP_AEAD_CTX_seal_scatter(
                self.context,
                block.as_mut_ptr(),
                tag.as_mut_ptr(),
                &mut written,
                tag.len(),
                nonce.as_ptr(),
                nonce.len(),
                block.as_ptr(),
                block.len(),
                ptr::null(),
                0,
                data.as_ptr(),
                data.len(),
            )
        };
        assert!(
            done == 1 && written == self.tag_bytes,
            "AWS-LC did not seal"
        );
    }

    fn open(&mut self, nonce: &[u8; 12], data: &[u8], block: &mut [u8], tag: &[u8; 16]) -> bool {
        // SAFETY: as above.
        let done = unsafe {
            lc::EVP_AEAD_CTX_open_gather(
                self.context,
                block.as_mut_ptr(),
                nonce.as_ptr(),
                nonce.len(),
                block.as_ptr(),
                block.len(),
                tag.as_ptr(),
                self.tag_bytes,
                data.as_ptr(),
                data.len(),
            )
        };
        done == 1
    }
}

struct Ring(ring::aead::LessSafeKey);

impl Cipher for Ring {
    fn name(&self) -> &'static str {
        "ring, 16-byte tag (safe API)"
    }

    fn seal(&mut self, nonce: &[u8; 12], data: &[u8], block: &mut [u8], tag: &mut [u8; 16]) {
        use ring::aead::{Aad, Nonce};
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let sealed = self
            .0
            .seal_in_place_separate_tag(nonce, Aad::from(data), block)
            .unwrap();
        tag.copy_from_slice(sealed.as_ref());
    }

    fn open(&mut self, nonce: &[u8; 12], data: &[u8], block: &mut [u8], tag: &[u8; 16]) -> bool {
        use ring::aead::{Aad, Nonce, Tag};
        let nonce = Nonce::assume_unique_for_key(*nonce);
        self.0
            .open_in_place_separate_tag(nonce, Aad::from(data), Tag::from(*tag), block, 0..)
            .is_ok()
    }
}

struct RustCrypto(AesGcm<Aes256, U12, U12>);

impl Cipher for RustCrypto {
    fn name(&self) -> &'static str {
        "RustCrypto aes-gcm, 12-byte tag"
    }

    fn seal(&mut self, nonce: &[u8; 12], data: &[u8], block: &mut [u8], tag: &mut [u8; 16]) {
        let sealed = self
            .0
            .encrypt_in_place_detached(nonce.into(), data, block)
            .unwrap();
        tag[..12].copy_from_slice(&sealed);
    }

    fn open(&mut self, nonce: &[u8; 12], data: &[u8], block: &mut [u8], tag: &[u8; 16]) -> bool {
        self.0
            .decrypt_in_place_detached(nonce.into(), data, block, tag[..12].into())
            .is_ok()
    }
}
