//! The signature of an image that may boot: Microsoft's Authenticode, the form UEFI checks.
//!
//! Invariant: everything that is signed is built here around one SHA-256 digest, so the
//! key cannot be made to sign a certificate, a variable update or any other text.
//! No time stamp and no randomness: the same digest gives the same bytes.
//!
//! Source: "Windows Authenticode Portable Executable Signature Format", version 1.0; it is
//! PKCS#7 1.5 (RFC 2315), where the content is a SEQUENCE and its digest leaves out the tag and
//! length.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rsa;
use cms::cert::{CertificateChoices, IssuerAndSerialNumber};
use cms::content_info::{CmsVersion, ContentInfo};
use cms::signed_data::{
    CertificateSet, EncapsulatedContentInfo, SignedAttributes, SignedData, SignerIdentifier,
    SignerInfo, SignerInfos,
};
use der::asn1::{Any, AnyRef, ObjectIdentifier, OctetString, SetOfVec};
use der::oid::db::rfc5911::{ID_CONTENT_TYPE, ID_MESSAGE_DIGEST, ID_SIGNED_DATA};
use der::oid::db::rfc5912::{ID_SHA_256, RSA_ENCRYPTION};
use der::{Decode as _, Encode as _, Sequence, Tag};
use x509_cert::Certificate;
use x509_cert::attr::Attribute;
use x509_cert::spki::AlgorithmIdentifierOwned;

use crate::{Failed, algorithm, sign_rsa};

/// SPC_INDIRECT_DATA_OBJID: what follows is the digest of something else.
const SPC_INDIRECT_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.311.2.1.4");

/// The constant half of the content, `SpcAttributeTypeAndOptionalValue`: SPC_PE_IMAGE_DATA_OBJID
/// (1.3.6.1.4.1.311.2.1.15), no flags, and in place of a file name `<<<Obsolete>>>` in UTF-16,
/// as the specification wants it.
#[rustfmt::skip]
const SPC_PE_IMAGE_DATA: [u8; 53] = [
    0x30, 0x33,
      0x06, 0x0a, 0x2b, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x02, 0x01, 0x0f,
      0x30, 0x25,
        0x03, 0x01, 0x00,
        0xa0, 0x20, 0xa2, 0x1e, 0x80, 0x1c,
          0, b'<', 0, b'<', 0, b'<', 0, b'O', 0, b'b', 0, b's', 0, b'o', 0, b'l',
          0, b'e', 0, b't', 0, b'e', 0, b'>', 0, b'>', 0, b'>',
];

/// The digest and its algorithm.
#[derive(Sequence)]
struct DigestInfo {
    algorithm: AlgorithmIdentifierOwned,
    digest: OctetString,
}

/// What Authenticode signs in place of the image.
#[derive(Sequence)]
struct SpcIndirectDataContent {
    data: Any,
    message_digest: DigestInfo,
}

/// The complete PKCS#7 `SignedData` for an image's Authenticode digest, DER. `certificate` is that
/// of `key`, DER; it is put in.
///
/// # Errors
/// [`Failed`], also when `certificate` is none.
pub fn sign(
    image_digest: &[u8; 32],
    key: &rsa::KeyPair,
    certificate: &[u8],
) -> Result<Vec<u8>, Failed> {
    let unencodable = |_| Failed("encoding a signature");
    let certificate = Certificate::from_der(certificate)
        .map_err(|_| Failed("reading the signer's certificate"))?;
    let content = indirect_data(image_digest).map_err(unencodable)?;
    let signed_attrs = signed_attributes(&content).map_err(unencodable)?;
    let signature = sign_rsa(key, &signed_attrs.to_der().map_err(unencodable)?)?;
    signed_data(content, signed_attrs, &signature, certificate).map_err(unencodable)
}

fn indirect_data(image_digest: &[u8; 32]) -> der::Result<Any> {
    Any::encode_from(&SpcIndirectDataContent {
        data: AnyRef::from_der(&SPC_PE_IMAGE_DATA)?.into(),
        message_digest: DigestInfo {
            algorithm: algorithm(ID_SHA_256),
            digest: OctetString::new(&image_digest[..])?,
        },
    })
}

fn signed_attributes(content: &Any) -> der::Result<SignedAttributes> {
    let content_digest = digest(&SHA256, content.value());
    SetOfVec::try_from(vec![
        attribute(ID_CONTENT_TYPE, Any::encode_from(&SPC_INDIRECT_DATA)?)?,
        attribute(
            ID_MESSAGE_DIGEST,
            Any::new(Tag::OctetString, content_digest.as_ref())?,
        )?,
    ])
}

fn attribute(oid: ObjectIdentifier, value: Any) -> der::Result<Attribute> {
    Ok(Attribute {
        oid,
        values: SetOfVec::try_from(vec![value])?,
    })
}

fn signed_data(
    content: Any,
    signed_attrs: SignedAttributes,
    signature: &[u8],
    certificate: Certificate,
) -> der::Result<Vec<u8>> {
    let signer = SignerInfo {
        version: CmsVersion::V1,
        sid: SignerIdentifier::IssuerAndSerialNumber(IssuerAndSerialNumber {
            issuer: certificate.tbs_certificate.issuer.clone(),
            serial_number: certificate.tbs_certificate.serial_number.clone(),
        }),
        digest_alg: algorithm(ID_SHA_256),
        signed_attrs: Some(signed_attrs),
        signature_algorithm: algorithm(RSA_ENCRYPTION),
        signature: OctetString::new(signature)?,
        unsigned_attrs: None,
    };
    let certificates = SetOfVec::try_from(vec![CertificateChoices::Certificate(certificate)])?;
    let signed_data = SignedData {
        version: CmsVersion::V1,
        digest_algorithms: SetOfVec::try_from(vec![algorithm(ID_SHA_256)])?,
        encap_content_info: EncapsulatedContentInfo {
            econtent_type: SPC_INDIRECT_DATA,
            econtent: Some(content),
        },
        certificates: Some(CertificateSet(certificates)),
        crls: None,
        signer_infos: SignerInfos(SetOfVec::try_from(vec![signer])?),
    };
    ContentInfo {
        content_type: ID_SIGNED_DATA,
        content: Any::encode_from(&signed_data)?,
    }
    .to_der()
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::rsa::KeySize;
    use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};

    use super::*;
    use crate::{Purpose, self_signed};

    /// The parts of a signature, as a reader other than the firmware would find them.
    fn read(signature: &[u8]) -> (SignedData, SignerInfo) {
        let info = ContentInfo::from_der(signature).unwrap();
        assert_eq!(info.content_type, ID_SIGNED_DATA);
        let signed: SignedData = info.content.decode_as().unwrap();
        let signer = signed.signer_infos.0.get(0).unwrap().clone();
        (signed, signer)
    }

    /// Promise: the signature is over the attributes, they are over the content, and the content
    /// is over the digest that was asked for.
    #[test]
    fn each_link_of_the_signature_holds() {
        let key = rsa::KeyPair::generate(KeySize::Rsa2048).unwrap();
        let certificate = self_signed("Vendor", Purpose::Images, &key).unwrap();
        let signature = sign(&[9; 32], &key, &certificate).unwrap();
        let (signed, signer) = read(&signature);

        let content = signed.encap_content_info.econtent.unwrap();
        let indirect: SpcIndirectDataContent = content.decode_as().unwrap();
        assert_eq!(indirect.message_digest.digest.as_bytes(), [9; 32]);

        let attributes = signer.signed_attrs.unwrap();
        let message_digest = attributes
            .iter()
            .find(|a| a.oid == ID_MESSAGE_DIGEST)
            .unwrap();
        assert_eq!(
            message_digest.values.get(0).unwrap().value(),
            digest(&SHA256, content.value()).as_ref()
        );
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key.public_key().as_ref())
            .verify(&attributes.to_der().unwrap(), signer.signature.as_bytes())
            .unwrap();
    }

    /// Promise: the same digest gives the same bytes, another digest others.
    #[test]
    fn signature_is_determined_by_the_digest() {
        let key = rsa::KeyPair::generate(KeySize::Rsa2048).unwrap();
        let certificate = self_signed("Vendor", Purpose::Images, &key).unwrap();
        let first = sign(&[1; 32], &key, &certificate);
        assert_eq!(first, sign(&[1; 32], &key, &certificate));
        assert_ne!(first, sign(&[2; 32], &key, &certificate));
    }
}
