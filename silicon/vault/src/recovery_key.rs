//! The recovery key: 130 random bits that are written down, in 28 characters.
//!
//! The characters are Crockford's base 32 (no I, L, O, U). The last two are a check: any one or
//! two wrong characters, and any two exchanged, are seen before the key is tried.
//!
//! Invariant: the bits are in the key arena; the text is wiped by whoever was given it.

use aws_lc_rs::agreement::{self, PrivateKey};
use zeroize::Zeroizing;

use crate::Error;
use crate::password::Password;
use crate::secret::{KEY_SIZE_BYTES, Secret};

/// Characters that say something, 5 bits each.
const DATA_SYMBOLS: usize = 26;
const CHECK_SYMBOLS: usize = 2;
const SYMBOLS: usize = DATA_SYMBOLS + CHECK_SYMBOLS;
const GROUP_SYMBOLS: usize = 4;
/// Length of a recovery key as text, dashes included.
pub const TEXT_SIZE_BYTES: usize = SYMBOLS + SYMBOLS / GROUP_SYMBOLS - 1;

const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

const WRAPPING_INFO: &[u8] = b"spacegray recovery wrapping 1";
const BUNDLE_INFO: &[u8] = b"spacegray recovery bundle key 1";

/// A recovery key.
pub struct RecoveryKey {
    /// The data symbols, one in each byte, then zeros.
    symbols: Secret,
}

impl RecoveryKey {
    /// A new one.
    pub fn generate() -> Result<RecoveryKey, Error> {
        let random = Secret::random()?;
        let symbols = Secret::filled(|symbols| {
            for (symbol, byte) in symbols[..DATA_SYMBOLS].iter_mut().zip(random.expose()) {
                *symbol = byte & 31;
            }
            Ok(())
        })?;
        Ok(RecoveryKey { symbols })
    }

    /// The key that was typed, however it was: in small letters, with other dashes and blanks, O
    /// for 0, I or L for 1. `None` if it is none: a typing error.
    pub fn parse(typed: &Password) -> Option<RecoveryKey> {
        let text = std::str::from_utf8(typed.expose()).ok()?;
        let mut typed = Zeroizing::new([0; SYMBOLS]);
        let mut count = 0;
        for character in text.chars().filter(|character| !is_filler(*character)) {
            *typed.get_mut(count)? = symbol(character)?;
            count += 1;
        }
        let (data, check) = typed.split_at(DATA_SYMBOLS);
        if count != SYMBOLS || check != check_symbols(data) {
            return None;
        }
        let symbols = Secret::filled(|symbols| {
            symbols[..DATA_SYMBOLS].copy_from_slice(data);
            Ok(())
        });
        symbols.ok().map(|symbols| RecoveryKey { symbols })
    }

    /// Seven groups of four characters, with dashes between them.
    pub fn text(&self) -> Zeroizing<String> {
        let data = &self.symbols.expose()[..DATA_SYMBOLS];
        let check = check_symbols(data);
        // All its room from the beginning, so that no copy is left behind.
        let mut text = Zeroizing::new(String::with_capacity(TEXT_SIZE_BYTES));
        for (place, symbol) in data.iter().chain(&check).enumerate() {
            if place > 0 && place % GROUP_SYMBOLS == 0 {
                text.push('-');
            }
            text.push(char::from(ALPHABET[usize::from(*symbol)]));
        }
        text
    }

    /// What wraps a key of the chip that `tangle` belongs to. With 130 bits there is nothing to
    /// guess, so it is not stretched.
    pub fn wrapping_key(&self, tangle: &Secret) -> Result<Secret, Error> {
        self.symbols.derive(tangle.expose(), &[WRAPPING_INFO])
    }

    /// What a recovery bundle is sealed for (X25519); whoever has it can open none.
    pub fn public_key(&self) -> Result<[u8; KEY_SIZE_BYTES], Error> {
        let failed = |_| Error::Cryptography("the recovery key's public half");
        let public_key = self.private_key()?.compute_public_key().map_err(failed)?;
        (public_key.as_ref().try_into()).map_err(|_| Error::Cryptography("an X25519 key"))
    }

    /// The other half of [`RecoveryKey::public_key`].
    pub fn private_key(&self) -> Result<PrivateKey, Error> {
        let private_key = self.symbols.derive(&[], &[BUNDLE_INFO])?;
        PrivateKey::from_private_key(&agreement::X25519, private_key.expose())
            .map_err(|_| Error::Cryptography("the recovery key's private half"))
    }
}

/// What people, and the programs they write it down in, put between the groups.
fn is_filler(character: char) -> bool {
    const DASHES: &str = "-_\u{ad}\u{2010}\u{2011}\u{2012}\u{2013}\u{2014}\u{2212}";
    character.is_whitespace() || DASHES.contains(character)
}

fn symbol(character: char) -> Option<u8> {
    let character = match character.to_ascii_uppercase() {
        'O' => '0',
        'I' | 'L' => '1',
        other => other,
    };
    let place = (ALPHABET.iter()).position(|letter| char::from(*letter) == character)?;
    u8::try_from(place).ok()
}

/// The check of a Reed-Solomon code over the field of 32 elements, whose generator has the roots
/// a and a²: the data followed by the check is a multiple of it. Words of up to 31 symbols that
/// do differ then do so in three places or more.
fn check_symbols(data: &[u8]) -> [u8; CHECK_SYMBOLS] {
    // (x - a)(x - a²) = x² + (a + a²) x + a³, where a is the element 2.
    const LINEAR: u8 = 2 ^ 4;
    const CONSTANT: u8 = 8;
    data.iter().fold([0; CHECK_SYMBOLS], |[high, low], symbol| {
        let carried = high ^ symbol;
        [low ^ times(carried, LINEAR), times(carried, CONSTANT)]
    })
}

/// The product in the field of 32 elements, whose polynomial is x⁵ + x² + 1.
fn times(left: u8, right: u8) -> u8 {
    (0..5).rev().fold(0, |product, bit| {
        let doubled = (product << 1) ^ ((product >> 4) * 0b10_0101);
        doubled ^ (left * ((right >> bit) & 1))
    })
}

#[cfg(test)]
pub mod tests;
