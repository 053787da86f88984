//! The first half of a connection: which export, and how it is spoken of.
//!
//! Fixed newstyle, one export under the default name. Invariants: no more bytes are taken than
//! the client's option holds; an option longer than [`OPTION_BYTES_MAX`] is never kept; all of it
//! ends at the deadline.

use std::io;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use super::protocol::*;
use super::socket;

/// Options that one client may send.
pub const OPTIONS_MAX: usize = 64;
/// The longest option that is looked at, in bytes.
pub const OPTION_BYTES_MAX: usize = 8192;
/// The longest that the handshake may take.
pub const HANDSHAKE_TIME: Duration = Duration::from_secs(10);
/// What the client is told of block sizes, in bytes: least, best, and most in one request.
pub const BLOCK_SIZES: [u32; 3] = [512, 4096, super::REQUEST_BYTES_MAX];
/// The number under which `base:allocation` is spoken of.
pub const ALLOCATION_CONTEXT: u32 = 1;

const ALLOCATION: &[u8] = b"base:allocation";
const BASE: &[u8] = b"base:";
const FLAGS: u16 = FLAG_HAS_FLAGS
    | FLAG_SEND_FLUSH
    | FLAG_SEND_FUA
    | FLAG_SEND_TRIM
    | FLAG_SEND_WRITE_ZEROES
    | FLAG_CAN_MULTI_CONN
    | FLAG_SEND_CACHE
    | FLAG_SEND_FAST_ZERO;
/// What follows the flags after `NBD_OPT_EXPORT_NAME`, for clients that want it.
const PADDING_BYTES: usize = 124;

/// What both agreed on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Agreed {
    /// Replies come in chunks.
    pub structured: bool,
    /// `base:allocation` may be asked for.
    pub allocation: bool,
}

/// Leads the handshake; `None` when the client wanted no transmission, or broke the rules.
///
/// # Errors
/// When the socket failed or the time ran out.
pub fn shake_hands(client: &UnixStream, capacity_bytes: u64) -> io::Result<Option<Agreed>> {
    let deadline = Instant::now() + HANDSHAKE_TIME;
    let mut handshake = Handshake {
        client,
        deadline,
        capacity_bytes,
        agreed: Agreed::default(),
    };
    handshake.lead()
}

struct Handshake<'a> {
    client: &'a UnixStream,
    deadline: Instant,
    capacity_bytes: u64,
    agreed: Agreed,
}

enum Next {
    Option,
    Transmission,
    End,
}

impl Handshake<'_> {
    fn lead(&mut self) -> io::Result<Option<Agreed>> {
        let ours = HANDSHAKE_FIXED_NEWSTYLE | HANDSHAKE_NO_ZEROES;
        let mut greeting = Vec::with_capacity(18);
        greeting.extend(NBD_MAGIC.to_be_bytes());
        greeting.extend(OPTION_MAGIC.to_be_bytes());
        greeting.extend(ours.to_be_bytes());
        socket::send(self.client, &greeting)?;
        let theirs = u32::from_be_bytes(self.take()?);
        if theirs & !u32::from(ours) != 0 {
            return Ok(None);
        }
        let padded = theirs & u32::from(HANDSHAKE_NO_ZEROES) == 0;
        for _ in 0..OPTIONS_MAX {
            match self.option(padded)? {
                Next::Option => {}
                Next::Transmission => return Ok(Some(self.agreed)),
                Next::End => break,
            }
        }
        Ok(None)
    }

    fn option(&mut self, padded: bool) -> io::Result<Next> {
        let header: [u8; 16] = self.take()?;
        let mut fields = Fields(&header);
        if fields.u64() != Some(OPTION_MAGIC) {
            return Ok(Next::End);
        }
        let (Some(option), Some(length)) = (fields.u32(), fields.u32()) else {
            return Ok(Next::End);
        };
        let length = length as usize;
        if length > OPTION_BYTES_MAX {
            if option == OPT_EXPORT_NAME {
                return Ok(Next::End);
            }
            self.skip(length)?;
            return self.reply(option, REP_ERR_TOO_BIG, &[]);
        }
        let mut data = vec![0; length];
        socket::receive_exactly(self.client, &mut data, self.deadline)?;
        match option {
            OPT_EXPORT_NAME => self.export_name(&data, padded),
            OPT_ABORT => {
                self.reply(option, REP_ACK, &[])?;
                Ok(Next::End)
            }
            OPT_LIST if data.is_empty() => {
                // The name's length, and no name.
                self.reply(option, REP_SERVER, &0u32.to_be_bytes())?;
                self.reply(option, REP_ACK, &[])
            }
            OPT_STRUCTURED_REPLY if data.is_empty() => {
                self.agreed.structured = true;
                self.reply(option, REP_ACK, &[])
            }
            OPT_LIST | OPT_STRUCTURED_REPLY => self.reply(option, REP_ERR_INVALID, &[]),
            // There is no network here that TLS would protect.
            OPT_STARTTLS if !data.is_empty() => self.reply(option, REP_ERR_INVALID, &[]),
            OPT_INFO | OPT_GO => self.info(option, &data),
            OPT_LIST_META_CONTEXT | OPT_SET_META_CONTEXT => self.meta_context(option, &data),
            _ => self.reply(option, REP_ERR_UNSUP, &[]),
        }
    }

    fn export_name(&self, name: &[u8], padded: bool) -> io::Result<Next> {
        if !name.is_empty() {
            // This old option has no way to say no.
            return Ok(Next::End);
        }
        let mut reply = self.export();
        reply.resize(reply.len() + if padded { PADDING_BYTES } else { 0 }, 0);
        socket::send(self.client, &reply)?;
        Ok(Next::Transmission)
    }

    fn info(&self, option: u32, data: &[u8]) -> io::Result<Next> {
        let mut fields = Fields(data);
        let name = fields.string();
        let wishes = fields.u16().map(|count| usize::from(count) * 2);
        let (Some(name), Some(wishes)) = (name, wishes) else {
            return self.reply(option, REP_ERR_INVALID, &[]);
        };
        if fields.0.len() != wishes {
            return self.reply(option, REP_ERR_INVALID, &[]);
        }
        if !name.is_empty() {
            return self.reply(option, REP_ERR_UNKNOWN, &[]);
        }
        // Both are told whether wished for or not; nothing else can be said.
        let mut export = INFO_EXPORT.to_be_bytes().to_vec();
        export.extend(self.export());
        self.reply(option, REP_INFO, &export)?;
        let mut sizes = INFO_BLOCK_SIZE.to_be_bytes().to_vec();
        sizes.extend(BLOCK_SIZES.iter().flat_map(|size| size.to_be_bytes()));
        self.reply(option, REP_INFO, &sizes)?;
        self.reply(option, REP_ACK, &[])?;
        Ok(if option == OPT_GO {
            Next::Transmission
        } else {
            Next::Option
        })
    }

    fn meta_context(&mut self, option: u32, data: &[u8]) -> io::Result<Next> {
        let set = option == OPT_SET_META_CONTEXT;
        if set {
            self.agreed.allocation = false;
        }
        let Some((name, queries)) = meta_queries(data) else {
            return self.reply(option, REP_ERR_INVALID, &[]);
        };
        if !self.agreed.structured {
            return self.reply(option, REP_ERR_INVALID, &[]);
        }
        if !name.is_empty() {
            return self.reply(option, REP_ERR_UNKNOWN, &[]);
        }
        let asked = if set {
            queries.contains(&ALLOCATION)
        } else {
            queries.is_empty()
                || queries
                    .iter()
                    .any(|query| [ALLOCATION, BASE].contains(query))
        };
        if asked {
            // The number means something only where the context was chosen.
            let number = if set { ALLOCATION_CONTEXT } else { 0 };
            let mut context = number.to_be_bytes().to_vec();
            context.extend(ALLOCATION);
            self.reply(option, REP_META_CONTEXT, &context)?;
            self.agreed.allocation |= set;
        }
        self.reply(option, REP_ACK, &[])
    }

    /// Size and flags of the one export.
    fn export(&self) -> Vec<u8> {
        let mut flags = FLAGS;
        if self.agreed.structured {
            flags |= FLAG_SEND_DF;
        }
        let mut bytes = self.capacity_bytes.to_be_bytes().to_vec();
        bytes.extend(flags.to_be_bytes());
        bytes
    }

    fn reply(&self, option: u32, kind: u32, data: &[u8]) -> io::Result<Next> {
        let mut reply = Vec::with_capacity(20 + data.len());
        reply.extend(OPTION_REPLY_MAGIC.to_be_bytes());
        reply.extend(option.to_be_bytes());
        reply.extend(kind.to_be_bytes());
        reply.extend((data.len() as u32).to_be_bytes());
        reply.extend(data);
        socket::send(self.client, &reply)?;
        Ok(Next::Option)
    }

    fn take<const N: usize>(&self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        socket::receive_exactly(self.client, &mut bytes, self.deadline)?;
        Ok(bytes)
    }

    fn skip(&self, length: usize) -> io::Result<()> {
        let mut waste = [0; OPTION_BYTES_MAX];
        let mut left = length;
        while left > 0 {
            let piece = left.min(waste.len());
            socket::receive_exactly(self.client, &mut waste[..piece], self.deadline)?;
            left -= piece;
        }
        Ok(())
    }
}

/// The export's name and the queries of a meta context option.
fn meta_queries(data: &[u8]) -> Option<(&[u8], Vec<&[u8]>)> {
    let mut fields = Fields(data);
    let name = fields.string()?;
    let count = fields.u32()?;
    let mut queries = Vec::new();
    for _ in 0..count {
        queries.push(fields.string()?);
    }
    fields.0.is_empty().then_some((name, queries))
}
