//! A signing authority for tests.

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use vault::Authority;

/// One that a chip can be born with.
pub fn authority() -> Authority {
    let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    Authority {
        key: (key.public_key().as_der().unwrap().as_ref())
            .try_into()
            .unwrap(),
        vendor: b"a certificate".to_vec(),
    }
}
