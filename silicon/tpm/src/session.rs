//! A conversation with the TPM that nobody else can follow or change.
//!
//! It is an HMAC session (Part 1, "Authorizations and Acknowledgments") that is salted for the
//! TPM's storage key and bound to nothing. Both sides draw a nonce for each command and answer;
//! all of a command and of an answer goes into their HMACs, under the session's key and the
//! authorisation of what is asked for. The first parameter of a command, and of its answer, is
//! encrypted where it is secret (Part 1, "Session-based encryption").
//!
//! Beginning one takes the TPM longer than all that is done in it: it makes a key and agrees on a
//! secret. So a conversation can be kept for the next, for as long as somebody holds it.
//!
//! Invariants: an answer is parsed only after its HMAC was found right; nonces are never used
//! twice; the session is put away when dropped, unless it is kept, and at the latest when nobody
//! holds it; one in which something failed is not kept.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use aws_lc_rs::cipher::{
    AES_128, DecryptingKey, DecryptionContext, EncryptingKey, EncryptionContext, UnboundCipherKey,
};
use aws_lc_rs::digest::{self, SHA256};
use aws_lc_rs::hmac;
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::kdf::{KbkdfCtrHmacAlgorithmId, get_kbkdf_ctr_hmac_algorithm, kbkdf_ctr_hmac};
use zeroize::Zeroizing;

use crate::Error;
use crate::bytes::{Reader, Writer, size};
use crate::error::RC_SUCCESS;
use crate::key::{AES_BITS, ALG_AES, ALG_CFB, ALG_SHA256, KEY_NAME_SIZE_BYTES, StorageKey, flush};
use crate::link::{Bus, ST_NO_SESSIONS, ST_SESSIONS, command};

const CC_START_AUTH_SESSION: u32 = 0x176;
const SE_HMAC: u8 = 0;
const RH_NULL: u32 = 0x4000_0007;
/// Size of a nonce and of the session's key: SHA-256's.
const DIGEST_SIZE_BYTES: usize = 32;
const AES_KEY_SIZE_BYTES: usize = 16;
const IV_SIZE_BYTES: usize = 16;

/// Attributes of a session in a command (Part 2, `TPMA_SESSION`): it goes on afterwards, …
const CONTINUE_SESSION: u8 = 0x01;
/// … the command's first parameter is encrypted, …
const DECRYPT: u8 = 0x20;
/// … the answer's is to be.
const ENCRYPT: u8 = 0x40;

type Nonce = [u8; DIGEST_SIZE_BYTES];

/// What is secret in a command and its answer. Each has its size before it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Hidden {
    /// Nothing.
    Nothing,
    /// The command's first parameter.
    First,
    /// The answer's first parameter.
    Answer,
}

/// What a command is about: a handle and the name that the HMAC knows it by.
pub struct Entity {
    /// The handle.
    pub handle: u32,
    /// The name (Part 1, "Names").
    pub name: Vec<u8>,
}

impl Entity {
    /// Something that is named by its handle: a hierarchy.
    pub fn permanent(handle: u32) -> Entity {
        let name = handle.to_be_bytes().into();
        Entity { handle, name }
    }
}

/// A conversation with the TPM.
pub struct Session {
    /// There until it is dropped.
    open: Option<Open>,
    kept: Rc<Kept>,
}

/// What the TPM knows of a conversation, and what it takes to go on with it.
struct Open {
    bus: Bus,
    handle: u32,
    key_name: [u8; KEY_NAME_SIZE_BYTES],
    key: Zeroizing<[u8; DIGEST_SIZE_BYTES]>,
    /// The TPM's newest nonce.
    nonce_tpm: Nonce,
    /// Every command so far was carried out.
    is_sound: bool,
}

/// A conversation that is kept for the next who wants one, while somebody holds it.
#[derive(Default)]
pub struct Kept {
    holders: Cell<usize>,
    open: RefCell<Option<Open>>,
}

impl Kept {
    /// One holder more.
    pub fn hold(&self) {
        self.holders.set(self.holders.get() + 1);
    }

    /// One less. The last one has the conversation ended.
    pub fn release(&self) {
        self.holders.set(self.holders.get() - 1);
        if self.holders.get() == 0 {
            drop(self.open.take());
        }
    }
}

impl Session {
    /// Goes on with the conversation that is kept, or begins one.
    pub(crate) fn begin(
        bus: &Bus,
        kept: &Rc<Kept>,
        expected: Option<&[u8; KEY_NAME_SIZE_BYTES]>,
    ) -> Result<Session, Error> {
        let open = match kept.open.take() {
            Some(open) => open,
            None => Open::begin(bus, expected)?,
        };
        let session = Session {
            open: Some(open),
            kept: kept.clone(),
        };
        if expected.is_some_and(|name| name != session.key_name()) {
            return Err(Error::OtherTpm);
        }
        Ok(session)
    }

    /// The name of the key that this session is salted for: the TPM's, until it is cleared.
    pub fn key_name(&self) -> &[u8; KEY_NAME_SIZE_BYTES] {
        &self.open().key_name
    }

    /// Has a command carried out and gives its answer's parameters. The first of `entities` has
    /// to be authorised, with the value `authorisation`; `first` is the first parameter without
    /// its size, where it is hidden, and all parameters otherwise; `rest` are those after it.
    pub(crate) fn run(
        &mut self,
        code: u32,
        entities: &[Entity],
        authorisation: &[u8],
        hidden: Hidden,
        first: &[u8],
        rest: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, Error> {
        let open = self.open.as_mut().expect(OPEN);
        open.run(code, entities, authorisation, hidden, first, rest)
            .inspect_err(|_| open.is_sound = false)
    }

    /// Has a command carried out that needs no authorisation, and gives its answer's body. It is
    /// not authenticated.
    pub(crate) fn run_openly(&self, code: u32, body: &[u8]) -> Result<Vec<u8>, Error> {
        let sent = command(ST_NO_SESSIONS, code, body);
        Ok(self.open().bus.run(sent.bytes())?.body().to_vec())
    }

    fn open(&self) -> &Open {
        self.open.as_ref().expect(OPEN)
    }
}

const OPEN: &str = "a session is open until it is dropped";

impl Drop for Session {
    fn drop(&mut self) {
        let is_held = self.kept.holders.get() > 0;
        let mut kept = self.kept.open.borrow_mut();
        if is_held && kept.is_none() && self.open().is_sound {
            *kept = self.open.take();
        }
    }
}

impl Open {
    /// TPM2_StartAuthSession (Part 3), if the TPM is the expected one.
    fn begin(bus: &Bus, expected: Option<&[u8; KEY_NAME_SIZE_BYTES]>) -> Result<Open, Error> {
        let storage_key = StorageKey::load(bus)?;
        let begun = if expected.is_some_and(|name| *name != storage_key.name) {
            Err(Error::OtherTpm)
        } else {
            Open::begin_with(bus, &storage_key)
        };
        flush(bus, storage_key.handle);
        begun
    }

    fn begin_with(bus: &Bus, storage_key: &StorageKey) -> Result<Open, Error> {
        let (salt, encrypted_salt) = storage_key.share_secret()?;
        let nonce_caller = nonce()?;
        let body = Writer::new()
            .u32(storage_key.handle)
            .u32(RH_NULL) // bound to nothing
            .sized(&nonce_caller)
            .sized(encrypted_salt.bytes())
            .u8(SE_HMAC)
            .u16(ALG_AES)
            .u16(AES_BITS)
            .u16(ALG_CFB)
            .u16(ALG_SHA256);
        let sent = command(ST_NO_SESSIONS, CC_START_AUTH_SESSION, body.bytes());
        let answer = bus.run(sent.bytes())?;
        let mut reader = Reader::new(answer.body());
        let handle = reader.u32()?;
        // From here on the session is put away, whatever else is wrong.
        let mut open = Open {
            bus: bus.clone(),
            handle,
            key_name: storage_key.name,
            key: Zeroizing::new([0; DIGEST_SIZE_BYTES]),
            nonce_tpm: [0; DIGEST_SIZE_BYTES],
            is_sound: true,
        };
        open.nonce_tpm = nonce_of(&mut reader)?;
        reader.end()?;
        derive(
            &salt[..],
            b"ATH",
            &open.nonce_tpm,
            &nonce_caller,
            &mut open.key[..],
        )?;
        Ok(open)
    }

    fn run(
        &mut self,
        code: u32,
        entities: &[Entity],
        authorisation: &[u8],
        hidden: Hidden,
        first: &[u8],
        rest: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, Error> {
        let key = Zeroizing::new([&self.key[..], authorisation].concat());
        let nonce_caller = nonce()?;

        let mut parameters = Writer::new();
        if hidden == Hidden::First {
            parameters = parameters.sized(first);
            let in_clear = &mut parameters.bytes_mut()[size_of::<u16>()..];
            encrypt(&key, &nonce_caller, &self.nonce_tpm, in_clear)?;
        } else {
            parameters = parameters.raw(first);
        }
        let parameters = parameters.raw(rest);

        let attributes = CONTINUE_SESSION
            | match hidden {
                Hidden::Nothing => 0,
                Hidden::First => DECRYPT,
                Hidden::Answer => ENCRYPT,
            };
        let mut of_command = digest::Context::new(&SHA256);
        of_command.update(&code.to_be_bytes());
        for entity in entities {
            of_command.update(&entity.name);
        }
        of_command.update(parameters.bytes());
        let hmac_key = hmac::Key::new(hmac::HMAC_SHA256, &key);
        let mac = authenticate(
            &hmac_key,
            of_command,
            [&nonce_caller, &self.nonce_tpm],
            attributes,
        );

        let authorisations = Writer::new()
            .u32(self.handle)
            .sized(&nonce_caller)
            .u8(attributes)
            .sized(mac.as_ref());
        let mut body = Writer::new();
        for entity in entities {
            body = body.u32(entity.handle);
        }
        let body = body
            .u32(size(authorisations.bytes().len()))
            .raw(authorisations.bytes())
            .raw(parameters.bytes());
        let sent = command(ST_SESSIONS, code, body.bytes());
        let answer = self.bus.run(sent.bytes())?;
        if answer.tag != ST_SESSIONS {
            return Err(Error::Garbled("tag"));
        }
        self.check(code, answer.body(), &hmac_key, &key, &nonce_caller, hidden)
    }

    /// The parameters of an answer, if the TPM gave it to this command.
    fn check(
        &mut self,
        code: u32,
        body: &[u8],
        hmac_key: &hmac::Key,
        key: &[u8],
        nonce_caller: &Nonce,
        hidden: Hidden,
    ) -> Result<Zeroizing<Vec<u8>>, Error> {
        let mut reader = Reader::new(body);
        let parameters_size = reader.u32()?;
        let parameters = reader.raw(parameters_size as usize)?;
        let nonce_tpm = nonce_of(&mut reader)?;
        let attributes = reader.u8()?;
        let mac = reader.sized()?;
        reader.end()?;

        let mut of_answer = digest::Context::new(&SHA256);
        of_answer.update(&RC_SUCCESS.to_be_bytes());
        of_answer.update(&code.to_be_bytes());
        of_answer.update(parameters);
        let signed = [
            of_answer.finish().as_ref(),
            &nonce_tpm,
            nonce_caller,
            &[attributes],
        ]
        .concat();
        hmac::verify(hmac_key, &signed, mac).map_err(|_| Error::Garbled("HMAC"))?;
        self.nonce_tpm = nonce_tpm;

        let mut parameters = Zeroizing::new(parameters.to_vec());
        if hidden == Hidden::Answer {
            if attributes & ENCRYPT == 0 {
                return Err(Error::Garbled("not encrypted"));
            }
            let count = usize::from(Reader::new(&parameters).u16()?);
            let encrypted = parameters
                .get_mut(size_of::<u16>()..size_of::<u16>() + count)
                .ok_or(Error::Garbled("too short"))?;
            decrypt(key, &nonce_tpm, nonce_caller, encrypted)?;
        }
        Ok(parameters)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        flush(&self.bus, self.handle);
    }
}

/// The HMAC of a command (Part 1, "HMAC Computation"); an answer's is put together alike.
fn authenticate(
    key: &hmac::Key,
    of_parameters: digest::Context,
    [newer, older]: [&Nonce; 2],
    attributes: u8,
) -> hmac::Tag {
    let mut mac = hmac::Context::with_key(key);
    mac.update(of_parameters.finish().as_ref());
    mac.update(newer);
    mac.update(older);
    mac.update(&[attributes]);
    mac.sign()
}

/// A new nonce.
fn nonce() -> Result<Nonce, Error> {
    let mut nonce = [0; DIGEST_SIZE_BYTES];
    aws_lc_rs::rand::fill(&mut nonce).map_err(|_| Error::Cryptography("random bytes"))?;
    Ok(nonce)
}

/// The TPM's nonce.
fn nonce_of(reader: &mut Reader<'_>) -> Result<Nonce, Error> {
    let nonce = reader.sized()?;
    nonce.try_into().map_err(|_| Error::Garbled("nonce"))
}

/// KDFa with SHA-256 (Part 1, "KDFa()"): fills `output`.
fn derive(
    key: &[u8],
    label: &[u8],
    first: &Nonce,
    second: &Nonce,
    output: &mut [u8],
) -> Result<(), Error> {
    let failed = || Error::Cryptography("deriving a session's key");
    let hmac = get_kbkdf_ctr_hmac_algorithm(KbkdfCtrHmacAlgorithmId::Sha256).ok_or_else(failed)?;
    let bits = size(output.len() * 8).to_be_bytes();
    let context = [label, &[0], first, second, &bits].concat();
    kbkdf_ctr_hmac(hmac, key, &context, output).map_err(|_| failed())
}

/// Key and initialisation vector for one parameter (Part 1, "CFB Mode Parameter Encryption").
fn parameter_key(
    key: &[u8],
    newer: &Nonce,
    older: &Nonce,
) -> Result<(UnboundCipherKey, FixedLength<IV_SIZE_BYTES>), Error> {
    let mut derived = Zeroizing::new([0; AES_KEY_SIZE_BYTES + IV_SIZE_BYTES]);
    derive(key, b"CFB", newer, older, &mut derived[..])?;
    let (key, iv) = derived.split_at(AES_KEY_SIZE_BYTES);
    let iv: [u8; IV_SIZE_BYTES] = iv.try_into().expect("the rest has this size");
    let key = UnboundCipherKey::new(&AES_128, key);
    Ok((key.map_err(|_| encryption_failed())?, iv.into()))
}

fn encrypt(key: &[u8], newer: &Nonce, older: &Nonce, bytes: &mut [u8]) -> Result<(), Error> {
    let (key, iv) = parameter_key(key, newer, older)?;
    EncryptingKey::cfb128(key)
        .and_then(|key| key.less_safe_encrypt(bytes, EncryptionContext::Iv128(iv)))
        .map_err(|_| encryption_failed())?;
    Ok(())
}

fn decrypt(key: &[u8], newer: &Nonce, older: &Nonce, bytes: &mut [u8]) -> Result<(), Error> {
    let (key, iv) = parameter_key(key, newer, older)?;
    DecryptingKey::cfb128(key)
        .and_then(|key| key.decrypt(bytes, DecryptionContext::Iv128(iv)).map(|_| ()))
        .map_err(|_| encryption_failed())
}

fn encryption_failed() -> Error {
    Error::Cryptography("encrypting a parameter")
}
