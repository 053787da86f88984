//! The highest epoch that was ever signed, of each product.
//!
//! `epochs`, `docs/authority-protocol.md`: a magic number, of each product its name (32 bytes,
//! filled with zeros) and its epoch (64 bits, big endian), in the order of the names, and the
//! SHA-256 of all that.

use std::collections::BTreeMap;

use aws_lc_rs::digest::{SHA256, digest};
use ticket::{PRODUCT_SIZE_BYTES_MAX, Product};

use crate::error::Error;

/// The file's name, for errors too.
pub const FILE: &str = "epochs";
/// As many products are remembered.
pub const PRODUCTS_MAX: usize = 64;
/// No such file is longer.
pub const FILE_SIZE_BYTES_MAX: usize =
    MAGIC.len() + PRODUCTS_MAX * ENTRY_SIZE_BYTES + CHECKSUM_SIZE_BYTES;

const MAGIC: &[u8; 8] = b"sgepoch\x01";
const ENTRY_SIZE_BYTES: usize = PRODUCT_SIZE_BYTES_MAX + 8;
const CHECKSUM_SIZE_BYTES: usize = 32;
const DAMAGED: Error = Error::Corrupt(FILE);

/// What was signed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Epochs {
    highest: BTreeMap<String, u64>,
}

impl Epochs {
    /// Whether nothing was ever signed.
    pub fn is_empty(&self) -> bool {
        self.highest.is_empty()
    }

    /// What there is to remember once this product's system is signed; `None` if that is nothing
    /// new.
    ///
    /// # Errors
    /// [`Error::Epoch`] for a system that is older than one that was signed, [`Error::Products`]
    /// for one product too many.
    pub fn with(&self, product: &Product, epoch: u64) -> Result<Option<Epochs>, Error> {
        match self.highest.get(product.as_str()) {
            Some(highest) if epoch < *highest => return Err(Error::Epoch),
            Some(highest) if epoch == *highest => return Ok(None),
            None if self.highest.len() == PRODUCTS_MAX => return Err(Error::Products),
            _ => {}
        }
        let mut epochs = self.clone();
        epochs.highest.insert(product.as_str().to_owned(), epoch);
        Ok(Some(epochs))
    }

    /// The file.
    pub fn encode(&self) -> Vec<u8> {
        let mut file = MAGIC.to_vec();
        for (product, epoch) in &self.highest {
            let mut name = [0; PRODUCT_SIZE_BYTES_MAX];
            name[..product.len()].copy_from_slice(product.as_bytes());
            file.extend_from_slice(&name);
            file.extend_from_slice(&epoch.to_be_bytes());
        }
        let checksum = digest(&SHA256, &file);
        file.extend_from_slice(checksum.as_ref());
        file
    }

    /// Reads a file.
    ///
    /// # Errors
    /// [`Error::Corrupt`] where it is not as it was written.
    pub fn parse(file: &[u8]) -> Result<Epochs, Error> {
        let end = file.len().checked_sub(CHECKSUM_SIZE_BYTES).ok_or(DAMAGED)?;
        let entries = file[..end].strip_prefix(MAGIC).ok_or(DAMAGED)?;
        let mut epochs = Epochs::default();
        for entry in entries.chunks(ENTRY_SIZE_BYTES) {
            let (name, epoch) = entry
                .split_first_chunk::<PRODUCT_SIZE_BYTES_MAX>()
                .ok_or(DAMAGED)?;
            let size_bytes = name
                .iter()
                .position(|byte| *byte == 0)
                .unwrap_or(name.len());
            let name = std::str::from_utf8(&name[..size_bytes]).map_err(|_| DAMAGED)?;
            let epoch = u64::from_be_bytes(epoch.try_into().map_err(|_| DAMAGED)?);
            let product = Product::parse(name).ok_or(DAMAGED)?;
            epochs.highest.insert(product.as_str().to_owned(), epoch);
        }
        // Order, padding, checksum: there is one form of it.
        (epochs.encode() == file).then_some(epochs).ok_or(DAMAGED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn product(name: &str) -> Product {
        Product::parse(name).unwrap()
    }

    /// Promise: of each product by itself the highest epoch counts; the same again is nothing new.
    #[test]
    fn older_systems_are_refused() {
        let none = Epochs::default();
        let one = none.with(&product("tiny"), 7).unwrap().unwrap();
        assert_eq!(one.with(&product("tiny"), 6), Err(Error::Epoch));
        assert_eq!(one.with(&product("tiny"), 7), Ok(None));
        let two = one.with(&product("pro"), 0).unwrap().unwrap();
        let three = two.with(&product("tiny"), u64::MAX).unwrap().unwrap();
        assert_eq!(three.with(&product("tiny"), 7), Err(Error::Epoch));
        assert_eq!(three.with(&product("pro"), 0), Ok(None));
    }

    /// Promise: the limit on products is a refusal, and what was known before goes on.
    #[test]
    fn products_have_a_limit() {
        let mut epochs = Epochs::default();
        for number in 0..PRODUCTS_MAX {
            let name = format!("{number:0>32}");
            epochs = epochs.with(&product(&name), 1).unwrap().unwrap();
        }
        assert_eq!(epochs.with(&product("more"), 1), Err(Error::Products));
        epochs = epochs
            .with(&product(&format!("{:0>32}", 5)), 2)
            .unwrap()
            .unwrap();
        let file = epochs.encode();
        assert_eq!(file.len(), FILE_SIZE_BYTES_MAX);
        assert_eq!(Epochs::parse(&file), Ok(epochs));
    }

    /// Promise: a file that was cut or changed anywhere is refused, and one with a fitting checksum
    /// in another form too.
    #[test]
    fn damaged_files_are_refused() {
        let epochs = Epochs::default().with(&product("b"), 7).unwrap().unwrap();
        let file = epochs.with(&product("a"), 7).unwrap().unwrap().encode();
        assert!(Epochs::parse(&file).is_ok());
        for end in 0..file.len() {
            assert_eq!(Epochs::parse(&file[..end]), Err(DAMAGED), "{end}");
        }
        for at in 0..file.len() {
            let mut changed = file.clone();
            changed[at] ^= 1;
            assert_eq!(Epochs::parse(&changed), Err(DAMAGED), "{at}");
        }
        let (first, second) = file[MAGIC.len()..].split_at(ENTRY_SIZE_BYTES);
        let second = &second[..ENTRY_SIZE_BYTES];
        for entries in [[second, first], [first, first]] {
            let mut other = [&MAGIC[..], &entries.concat()].concat();
            other.extend_from_slice(digest(&SHA256, &other).as_ref());
            assert_eq!(Epochs::parse(&other), Err(DAMAGED));
        }
    }
}
