//! Requests in, replies out, one at a time, until the link closes.
//!
//! Invariant: a broken request changes nothing, and the authority goes on.

use rustix::io::Errno;
use wire::{Link, Malformed, Map, Packet, ReceiveError, Value, refused, success};
use zeroize::Zeroizing;

use crate::authority::Authority;
use crate::error::Error;

const DIGEST_SIZE_BYTES: usize = 32;

/// Why there is no reply of the operation's own.
struct Refusal {
    code: &'static str,
    detail: String,
}

/// Answers until the other end closes the link.
pub fn serve(link: &Link, authority: &mut Authority) -> Result<(), Errno> {
    loop {
        let reply = match link.receive() {
            Ok(Some(packet)) => answer(authority, &packet),
            Ok(None) => return Ok(()),
            Err(ReceiveError::TooMuch) => Err(refusal("malformed", "the packet is too long")),
            Err(ReceiveError::Link(errno)) => return Err(errno),
        };
        let reply = reply.unwrap_or_else(|no| refused(no.code, &no.detail, &[]));
        match link.send(&reply) {
            Ok(()) => {}
            Err(Errno::PIPE | Errno::CONNRESET) => return Ok(()),
            Err(errno) => return Err(errno),
        }
    }
}

fn answer(authority: &mut Authority, packet: &Packet) -> Result<Zeroizing<Vec<u8>>, Refusal> {
    if !packet.descriptors.is_empty() {
        return Err(refusal("descriptor", "nothing here takes a descriptor"));
    }
    let mut request = Map::parse(&packet.bytes)?;
    match request.text("op")? {
        "identity" => {
            request.end()?;
            let keys = authority.keys();
            Ok(success(&[
                ("ticket_key", Value::Bytes(keys.ticket_key())),
                ("vendor", Value::Bytes(keys.vendor())),
                ("order_key", Value::Bytes(keys.order_key())),
            ]))
        }
        "sign_ticket" => {
            let asked = request.bytes("request")?;
            request.end()?;
            let ticket = authority.sign_ticket(asked)?;
            Ok(success(&[("ticket", Value::Bytes(&ticket))]))
        }
        "sign_order" => {
            let (ecid, job) = (request.uint("ecid")?, request.text("job")?);
            let not_before = request.uint("not_before")?;
            let not_after = request.uint("not_after")?;
            request.end()?;
            let order = authority.sign_order(ecid, job, not_before, not_after)?;
            Ok(success(&[("order", Value::Bytes(&order))]))
        }
        "sign_image" => {
            let digest = request.bytes("digest")?;
            request.end()?;
            let digest: &[u8; DIGEST_SIZE_BYTES] = digest.try_into().map_err(|_| Malformed)?;
            let signature = authority.keys().sign_image(digest)?;
            Ok(success(&[("signature", Value::Bytes(&signature))]))
        }
        _ => Err(refusal("unknown_op", "no such operation")),
    }
}

fn refusal(code: &'static str, detail: &str) -> Refusal {
    let detail = detail.to_owned();
    Refusal { code, detail }
}

impl From<Malformed> for Refusal {
    fn from(_: Malformed) -> Refusal {
        refusal("malformed", "the packet is no request")
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Refusal {
        let code = match error {
            Error::Held | Error::Storage(..) => "storage",
            Error::Corrupt(_) => "corrupt",
            Error::Cryptography(_) => "cryptography",
            Error::Malformed | Error::Job => "malformed",
            Error::Epoch => "epoch",
            Error::Products => "products",
            Error::Validity => "validity",
        };
        refusal(code, &error.to_string())
    }
}
