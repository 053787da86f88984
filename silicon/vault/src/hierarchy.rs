//! The keys above the disk's data, each wrapped by the one above it (AES key wrap, RFC 3394).
//!
//! ```text
//! UID ──────────────┐
//! UID × password ───┼─ class key ─ volume key ─ media key wraps the whole
//! recovery key × UID┘
//! ```
//!
//! The class key is wrapped by the UID alone while there is no password, and else by the password
//! tangled with the UID; beside that by the recovery key, if there is one. Passwords come and go
//! without anything of the disk being encrypted anew. The media key adds no secrecy: it is what an
//! erase destroys.
//!
//! Invariant: a wrong key unwraps nothing and is told from a damaged store by nothing but that.

use aws_lc_rs::key_wrap::{AES_256, AesKek, KeyWrap as _};
use zeroize::Zeroizing;

use crate::Error;
use crate::password::{Cost, Password, stretch};
use crate::recovery_key::RecoveryKey;
use crate::secret::{KEY_SIZE_BYTES, Secret};

/// Size of a wrapped key.
pub const WRAPPED_SIZE_BYTES: usize = KEY_SIZE_BYTES + 8;
/// Size of a key that is wrapped twice.
pub const TWICE_WRAPPED_SIZE_BYTES: usize = WRAPPED_SIZE_BYTES + 8;
/// Size of the salt of a password.
pub const SALT_SIZE_BYTES: usize = 32;

/// A key under another.
pub type Wrapped = [u8; WRAPPED_SIZE_BYTES];

/// What the UID wraps the class key with while there is no password (HKDF's `info`).
const CLASS_LABEL: &[u8] = b"spacegray class key 1";
/// What passwords are tangled with.
const PASSWORD_LABEL: &[u8] = b"spacegray password 1";
/// What recovery keys are tangled with.
const RECOVERY_LABEL: &[u8] = b"spacegray recovery key 1";
/// What wrong secrets are remembered by.
const MARK_LABEL: &[u8] = b"spacegray wrong secret 1";

/// The class key under a password.
pub struct UnderPassword {
    /// The password's salt.
    pub salt: [u8; SALT_SIZE_BYTES],
    /// What computing it costs.
    pub cost: Cost,
    /// The class key.
    pub class_key: Wrapped,
}

/// The class key under the recovery key.
pub struct UnderRecovery {
    /// The class key.
    pub class_key: Wrapped,
    /// For bundles that only the recovery key opens.
    pub public_key: [u8; KEY_SIZE_BYTES],
}

/// All keys to one disk.
pub struct Hierarchy {
    /// Wraps the wrapped volume key.
    pub media_key: Secret,
    /// The volume key under the class key, under the media key.
    pub volume_key: [u8; TWICE_WRAPPED_SIZE_BYTES],
    /// The class key under the UID; there while there is no password.
    pub by_uid: Option<Wrapped>,
    /// The class key under the owner's password.
    pub by_password: Option<UnderPassword>,
    /// The class key under the recovery key.
    pub by_recovery: Option<UnderRecovery>,
}

impl Hierarchy {
    /// Keys for a disk under `volume_key`, without a password; the class key beside it.
    pub fn new(uid: &Secret, volume_key: &Secret) -> Result<(Hierarchy, Secret), Error> {
        let class_key = Secret::random()?;
        let media_key = Secret::random()?;
        let hierarchy = Hierarchy {
            volume_key: wrap_volume_key(volume_key, &class_key, &media_key)?,
            media_key,
            by_uid: Some(wrap(&uid_key(uid)?, class_key.expose())?),
            by_password: None,
            by_recovery: None,
        };
        Ok((hierarchy, class_key))
    }

    /// The class key, where the UID alone wraps it.
    pub fn class_key_by_uid(&self, uid: &Secret) -> Result<Option<Secret>, Error> {
        let Some(wrapped) = &self.by_uid else {
            return Ok(None);
        };
        unwrap(&uid_key(uid)?, wrapped)?
            .ok_or(Error::Corrupt("class key"))
            .map(Some)
    }

    /// The volume key.
    pub fn volume_key(&self, class_key: &Secret) -> Result<Secret, Error> {
        let mut inner = Zeroizing::new([0; WRAPPED_SIZE_BYTES]);
        let kek = kek(&self.media_key)?;
        (kek.unwrap(&self.volume_key, &mut inner[..])).map_err(|_| Error::Corrupt("volume key"))?;
        unwrap(class_key, &inner)?.ok_or(Error::Corrupt("volume key"))
    }

    /// Puts a volume key in the place of the one before, under a new media key.
    pub fn set_volume_key(&mut self, volume_key: &Secret, class_key: &Secret) -> Result<(), Error> {
        let media_key = Secret::random()?;
        self.volume_key = wrap_volume_key(volume_key, class_key, &media_key)?;
        self.media_key = media_key;
        Ok(())
    }

    /// From now on the class key needs this password.
    pub fn set_password(
        &mut self,
        uid: &Secret,
        class_key: &Secret,
        password: &Password,
        cost: Cost,
    ) -> Result<(), Error> {
        let mut salt = [0; SALT_SIZE_BYTES];
        aws_lc_rs::rand::fill(&mut salt).map_err(|_| Error::Cryptography("random bytes"))?;
        let key = password_key(uid, password, &salt, cost)?;
        self.by_password = Some(UnderPassword {
            salt,
            cost,
            class_key: wrap(&key, class_key.expose())?,
        });
        self.by_uid = None;
        Ok(())
    }

    /// From now on the class key needs the UID alone.
    pub fn remove_password(&mut self, uid: &Secret, class_key: &Secret) -> Result<(), Error> {
        self.by_uid = Some(wrap(&uid_key(uid)?, class_key.expose())?);
        self.by_password = None;
        Ok(())
    }

    /// From now on the class key can be had with this recovery key, and with no earlier one.
    pub fn set_recovery_key(
        &mut self,
        uid: &Secret,
        class_key: &Secret,
        key: &RecoveryKey,
    ) -> Result<(), Error> {
        self.by_recovery = Some(UnderRecovery {
            class_key: wrap(&recovery_key(uid, key)?, class_key.expose())?,
            public_key: key.public_key()?,
        });
        Ok(())
    }
}

impl UnderPassword {
    /// The class key, if the password is right; else what to remember of it.
    pub fn open(&self, uid: &Secret, password: &Password) -> Result<Guess<Secret>, Error> {
        let key = password_key(uid, password, &self.salt, self.cost)?;
        Guess::with(&key, &self.class_key)
    }
}

impl UnderRecovery {
    /// The same for a recovery key.
    pub fn open(&self, uid: &Secret, key: &RecoveryKey) -> Result<Guess<Secret>, Error> {
        Guess::with(&recovery_key(uid, key)?, &self.class_key)
    }
}

/// What came of a try.
pub enum Guess<T> {
    /// What the right one opens.
    Right(T),
    /// What tells whether the next wrong secret is the same.
    Wrong(Secret),
}

impl<T> Guess<T> {
    /// For a secret that gave this key, which is not the right one.
    pub fn wrong(key: &Secret) -> Result<Guess<T>, Error> {
        key.derive(&[], &[MARK_LABEL]).map(Guess::Wrong)
    }
}

impl Guess<Secret> {
    fn with(key: &Secret, wrapped: &Wrapped) -> Result<Guess<Secret>, Error> {
        match unwrap(key, wrapped)? {
            Some(class_key) => Ok(Guess::Right(class_key)),
            None => Guess::wrong(key),
        }
    }
}

fn uid_key(uid: &Secret) -> Result<Secret, Error> {
    uid.derive(&[], &[CLASS_LABEL])
}

fn password_key(
    uid: &Secret,
    password: &Password,
    salt: &[u8; SALT_SIZE_BYTES],
    cost: Cost,
) -> Result<Secret, Error> {
    stretch(password, salt, &uid.derive(&[], &[PASSWORD_LABEL])?, cost)
}

fn recovery_key(uid: &Secret, key: &RecoveryKey) -> Result<Secret, Error> {
    key.wrapping_key(&uid.derive(&[], &[RECOVERY_LABEL])?)
}

fn wrap_volume_key(
    volume_key: &Secret,
    class_key: &Secret,
    media_key: &Secret,
) -> Result<[u8; TWICE_WRAPPED_SIZE_BYTES], Error> {
    wrap(
        media_key,
        &wrap::<WRAPPED_SIZE_BYTES>(class_key, volume_key.expose())?,
    )
}

fn wrap<const SIZE: usize>(key: &Secret, plain: &[u8]) -> Result<[u8; SIZE], Error> {
    let mut wrapped = [0; SIZE];
    let failed = |_| Error::Cryptography("wrapping a key");
    let written = kek(key)?.wrap(plain, &mut wrapped).map_err(failed)?.len();
    assert_eq!(written, SIZE, "a wrapped key is 8 bytes longer");
    Ok(wrapped)
}

/// The key, or nothing where `key` is not what it was wrapped with.
fn unwrap(key: &Secret, wrapped: &Wrapped) -> Result<Option<Secret>, Error> {
    let kek = kek(key)?;
    let mut is_right = false;
    let plain = Secret::filled(|plain| {
        is_right = kek.unwrap(wrapped, plain).is_ok();
        Ok(())
    })?;
    Ok(is_right.then_some(plain))
}

fn kek(key: &Secret) -> Result<AesKek, Error> {
    AesKek::new(&AES_256, key.expose()).map_err(|_| Error::Cryptography("taking a wrapping key"))
}
