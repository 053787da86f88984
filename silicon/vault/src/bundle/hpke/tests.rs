use super::*;
use crate::secret::tests::hex;

fn array<const SIZE: usize>(digits: &str) -> [u8; SIZE] {
    hex(digits).try_into().unwrap()
}

fn private(digits: &str) -> PrivateKey {
    PrivateKey::from_private_key(&X25519, &hex(digits)).unwrap()
}

/// Promise: it is HPKE: the vector of the RFC's authors for this suite and the base mode, sender
/// and recipient (github.com/cfrg/draft-irtf-cfrg-hpke, test-vectors.json).
#[test]
fn the_vector_of_rfc_9180() {
    let info = hex("4f6465206f6e2061204772656369616e2055726e");
    let sender = private("179d4b53b6365c45b600c4163b61d95cbc2f4d9e36f1695558dce265ab8bab11");
    let recipient = private("497b4502664cfea5d5af0b39934dac72242a74f8480451e1aee7d6a53320333d");
    let recipient_public: PublicKey =
        array("430f4b9859665145a6b1ba274024487bd66f03a2dd577d7753c68d7d7d00c00c");
    assert_eq!(public_half(&recipient).unwrap(), recipient_public);

    let (context, encapsulated) = encapsulate_with(&sender, &recipient_public, &info).unwrap();
    let expected = "6c93e09869df3402d7bf231bf540fadd35cd56be14f97178f0954db94b7fc256";
    assert_eq!(encapsulated, array::<32>(expected));
    assert_eq!(context.nonce, array("151d9929e2449747889bc923"));

    let additional = hex("436f756e742d30");
    let message = hex("4265617574792069732074727574682c20747275746820626561757479");
    let sealed = context.seal(&additional, &message).unwrap();
    assert_eq!(
        sealed,
        hex(
            "e5d84cd531cfb583096e7cfa9641bd3079cf3a91cda813c52deb5f512be9931980a41de125a925cdad859d5b7a"
        )
    );
    let context = decapsulate_with(&recipient, &encapsulated, &info).unwrap();
    assert_eq!(context.open(&additional, &sealed).unwrap()[..], message);
}

/// Promise: what comes with a message cannot force a secret that everybody knows: points of low
/// order are refused.
#[test]
fn points_of_low_order_are_refused() {
    let recipient = PrivateKey::generate(&X25519).unwrap();
    let mut one = [0; 32];
    one[0] = 1;
    let eighth = array("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800");
    for point in [[0; 32], one, eighth] {
        let refused = decapsulate_with(&recipient, &point, b"").err();
        assert!(matches!(refused, Some(Error::Corrupt(_))));
        assert!(encapsulate(&point, b"").is_err());
    }
}
