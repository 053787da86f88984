//! What the firmware may ask of the SSD.
//!
//! Invariant: a request is taken only if it is exactly what `docs/ssd-protocol.md` lists.

use wire::{Map, RequestError};

/// The smallest disk, in bytes.
pub const CAPACITY_BYTES_MIN: u64 = 16 << 20;
/// The largest disk, in bytes.
pub const CAPACITY_BYTES_MAX: u64 = 4 << 40;
/// Capacities are multiples of this, in bytes.
pub const CAPACITY_STEP_BYTES: u64 = 4096;

/// One request, already checked for form.
#[derive(Debug, PartialEq, Eq)]
pub enum Request {
    /// Erase both modules and make a new, empty disk.
    Format {
        /// Its size in bytes.
        capacity_bytes: u64,
    },
    /// Open the disk.
    Open {
        /// Whether every flush is anchored.
        strict: bool,
        /// Whether in the state that the modules have themselves.
        adopt: bool,
    },
    /// Serve the open disk on the listening socket that came along.
    Serve {
        /// How.
        front: FrontKind,
    },
    /// Tell how the disk is.
    Status,
    /// Read and authenticate some blocks.
    Verify {
        /// The first.
        block: u64,
        /// How many.
        count: u64,
    },
    /// Stop serving and close.
    Close,
}

/// How a disk is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrontKind {
    /// To NBD clients.
    Nbd,
    /// To a virtual machine.
    VhostUserBlk,
}

impl FrontKind {
    /// All of them, in the order of the document.
    pub const ALL: [FrontKind; 2] = [FrontKind::Nbd, FrontKind::VhostUserBlk];

    /// Its name on the link.
    pub const fn as_str(self) -> &'static str {
        match self {
            FrontKind::Nbd => "nbd",
            FrontKind::VhostUserBlk => "vhost-user-blk",
        }
    }
}

impl Request {
    /// The names of the operations, in the order of the document.
    #[cfg(test)]
    pub const OPERATIONS: [&str; 6] = ["format", "open", "serve", "status", "verify", "close"];

    /// Reads one packet.
    ///
    /// # Errors
    /// [`RequestError::UnknownOperation`] for any map whose `op` is none of these.
    pub fn parse(packet: &[u8]) -> Result<Request, RequestError> {
        let mut map = Map::parse(packet)?;
        let request = match map.text("op")? {
            "format" => Request::Format {
                capacity_bytes: capacity(map.uint("capacity_bytes")?)?,
            },
            "open" => Request::Open {
                strict: map.bool("strict")?,
                adopt: map.bool("adopt")?,
            },
            "serve" => {
                let name = map.text("front")?;
                let mut fronts = FrontKind::ALL.into_iter();
                let front = fronts.find(|front| front.as_str() == name);
                Request::Serve {
                    front: front.ok_or(RequestError::Malformed)?,
                }
            }
            "status" => Request::Status,
            "verify" => Request::Verify {
                block: map.uint("block")?,
                count: map.uint("count")?,
            },
            "close" => Request::Close,
            _ => return Err(RequestError::UnknownOperation),
        };
        map.end()?;
        Ok(request)
    }

    /// Whether a descriptor belongs to it.
    pub fn takes_descriptor(&self) -> bool {
        matches!(self, Request::Serve { .. })
    }
}

fn capacity(bytes: u64) -> Result<u64, RequestError> {
    let fits = (CAPACITY_BYTES_MIN..=CAPACITY_BYTES_MAX).contains(&bytes);
    if !fits || bytes % CAPACITY_STEP_BYTES != 0 {
        return Err(RequestError::Malformed);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::{Value, request};

    fn parse(op: &str, fields: &[(&str, Value<'_>)]) -> Result<Request, RequestError> {
        Request::parse(&request(op, fields))
    }

    /// Promise: every listed operation is understood.
    #[test]
    fn listed_operations_are_read() {
        let size = |bytes| [("capacity_bytes", Value::Uint(bytes))];
        for bytes in [CAPACITY_BYTES_MIN, CAPACITY_BYTES_MAX] {
            let expected = Request::Format {
                capacity_bytes: bytes,
            };
            assert_eq!(parse("format", &size(bytes)), Ok(expected));
        }
        for adopt in [false, true] {
            let strict = !adopt;
            let fields = [
                ("strict", Value::Bool(strict)),
                ("adopt", Value::Bool(adopt)),
            ];
            let expected = Request::Open { strict, adopt };
            assert_eq!(parse("open", &fields), Ok(expected));
        }
        for front in FrontKind::ALL {
            let fields = [("front", Value::Text(front.as_str()))];
            assert_eq!(parse("serve", &fields), Ok(Request::Serve { front }));
        }
        assert_eq!(parse("status", &[]), Ok(Request::Status));
        assert_eq!(
            parse(
                "verify",
                &[("block", Value::Uint(7)), ("count", Value::Uint(u64::MAX))]
            ),
            Ok(Request::Verify {
                block: 7,
                count: u64::MAX
            })
        );
        assert_eq!(parse("close", &[]), Ok(Request::Close));
    }

    /// Promise: only the exact form is taken; an unknown operation is named as such.
    #[test]
    fn other_forms_are_refused() {
        assert_eq!(parse("erase", &[]), Err(RequestError::UnknownOperation));
        for bytes in [
            0,
            CAPACITY_BYTES_MIN - 4096,
            CAPACITY_BYTES_MAX + 4096,
            (32 << 20) + 512,
        ] {
            let fields = [("capacity_bytes", Value::Uint(bytes))];
            assert_eq!(
                parse("format", &fields),
                Err(RequestError::Malformed),
                "{bytes}"
            );
        }
        for (op, fields) in [
            ("format", vec![]),
            ("open", vec![]),
            ("open", vec![("strict", Value::Bool(true))]),
            (
                "open",
                vec![("strict", Value::Uint(1)), ("adopt", Value::Bool(true))],
            ),
            ("serve", vec![("front", Value::Text("iscsi"))]),
            ("verify", vec![("block", Value::Uint(1))]),
            ("status", vec![("block", Value::Uint(1))]),
            ("close", vec![("strict", Value::Bool(true))]),
        ] {
            assert_eq!(parse(op, &fields), Err(RequestError::Malformed), "{op}");
        }
    }
}
