//! What the vault answers.
//!
//! Invariant: a reply always fits into one packet; a refusal says no more than its code and a
//! short fixed text.

use std::convert::Infallible;

use minicbor::Encoder;
use minicbor::encode::Error;

/// A field of a successful reply.
pub enum Value<'a> {
    /// An unsigned number.
    Uint(u64),
    /// A byte string.
    Bytes(&'a [u8]),
}

/// The reasons to say no; `docs/vault-protocol.md` says when each is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// No request, or too much for one packet.
    Malformed,
    /// A request for something else.
    UnknownOperation,
    /// A descriptor is missing, too many or of the wrong kind.
    Descriptor,
    /// Neither birth nor opening came first.
    Locked,
    /// Birth of a chip that has been born.
    Exists,
    /// Opening of a chip that has not.
    Unborn,
    /// The seal does not yield the store's key.
    Sealed,
    /// The store is damaged.
    Corrupt,
    /// The state folder could not be read or written.
    Storage,
    /// The cryptographic library failed.
    Cryptography,
}

impl Code {
    /// All of them, in the order of the document.
    pub const ALL: [Code; 10] = [
        Code::Malformed,
        Code::UnknownOperation,
        Code::Descriptor,
        Code::Locked,
        Code::Exists,
        Code::Unborn,
        Code::Sealed,
        Code::Corrupt,
        Code::Storage,
        Code::Cryptography,
    ];

    /// The code as it is sent.
    pub const fn as_str(self) -> &'static str {
        match self {
            Code::Malformed => "malformed",
            Code::UnknownOperation => "unknown_op",
            Code::Descriptor => "descriptor",
            Code::Locked => "locked",
            Code::Exists => "exists",
            Code::Unborn => "unborn",
            Code::Sealed => "sealed",
            Code::Corrupt => "corrupt",
            Code::Storage => "storage",
            Code::Cryptography => "cryptography",
        }
    }
}

/// Why the vault says no: the code for programs, the text for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// The reason.
    pub code: Code,
    /// A few words more.
    pub detail: &'static str,
}

/// `{"ok": true, ...fields}`
pub fn success(fields: &[(&str, Value<'_>)]) -> Vec<u8> {
    infallible(|encoder| {
        encoder
            .map(1 + fields.len() as u64)?
            .str("ok")?
            .bool(true)?;
        for (name, value) in fields {
            encoder.str(name)?;
            match value {
                Value::Uint(number) => encoder.u64(*number)?,
                Value::Bytes(bytes) => encoder.bytes(bytes)?,
            };
        }
        Ok(())
    })
}

/// `{"ok": false, "error": code, "detail": text}`
pub fn refused(refusal: Refusal) -> Vec<u8> {
    infallible(|encoder| {
        encoder.map(3)?.str("ok")?.bool(false)?;
        encoder.str("error")?.str(refusal.code.as_str())?;
        encoder.str("detail")?.str(refusal.detail)?;
        Ok(())
    })
}

/// Writing into a vector cannot fail, and minicbor's error type says so.
fn infallible(
    write: impl FnOnce(&mut Encoder<&mut Vec<u8>>) -> Result<(), Error<Infallible>>,
) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(&mut Encoder::new(&mut bytes)).expect("a vector takes every byte");
    assert!(bytes.len() <= crate::PACKET_SIZE_BYTES_MAX);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Promise: the protocol's document lists exactly the codes that are sent.
    #[test]
    fn document_lists_every_code() {
        let document = include_str!("../../../docs/vault-protocol.md");
        let (_, table) = document
            .split_once("## Refusals")
            .expect("the section is there");
        let listed: Vec<&str> = table
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
            .collect();
        assert_eq!(listed, Code::ALL.map(Code::as_str));
    }
}
