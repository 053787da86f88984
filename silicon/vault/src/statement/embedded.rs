//! The firmware's own words, which the vault signs as such without understanding them.

use minicbor::Decoder;
use minicbor::data::Type;

use crate::Error;

/// Maps and lists within each other, so that nobody who reads a statement is led too deep.
const DEPTH_MAX: u32 = 4;

/// That the bytes are one CBOR map with names as keys, of plain values, and nothing after it.
///
/// # Errors
/// `error` for anything else, and for more than `size_bytes_max`.
pub fn check(bytes: &[u8], size_bytes_max: usize, error: Error) -> Result<(), Error> {
    let mut decoder = Decoder::new(bytes);
    let is_map = bytes.len() <= size_bytes_max
        && matches!(decoder.datatype(), Ok(Type::Map))
        && value(&mut decoder, DEPTH_MAX).is_some()
        && decoder.position() == bytes.len();
    match is_map {
        true => Ok(()),
        false => Err(error),
    }
}

fn value(decoder: &mut Decoder<'_>, depth: u32) -> Option<()> {
    match decoder.datatype().ok()? {
        Type::Map => {
            let (depth, size) = (depth.checked_sub(1)?, decoder.map().ok()??);
            for _ in 0..size {
                decoder.str().ok()?;
                value(decoder, depth)?;
            }
        }
        Type::Array => {
            let (depth, size) = (depth.checked_sub(1)?, decoder.array().ok()??);
            for _ in 0..size {
                value(decoder, depth)?;
            }
        }
        Type::U8 | Type::U16 | Type::U32 | Type::U64 => drop(decoder.u64().ok()?),
        Type::I8 | Type::I16 | Type::I32 | Type::I64 => drop(decoder.i64().ok()?),
        Type::String => drop(decoder.str().ok()?),
        Type::Bytes => drop(decoder.bytes().ok()?),
        Type::Bool => drop(decoder.bool().ok()?),
        Type::Null => decoder.null().ok()?,
        _ => return None,
    }
    Some(())
}
