//! The certificate a node shows in DTLS handshakes on the media's path: made at start, known by its fingerprint only, gone
//! with the process. Nothing goes in; an [`Identity`] comes out. Its key comes from the operating system's randomness.

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PKCS_ECDSA_P256_SHA256};

use crate::srtp::Identity;

/// Makes a self-signed certificate with a key of its own.
pub(super) fn make() -> Result<Identity, rcgen::Error> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = DistinguishedName::new();
    // It names nobody: who it is, its fingerprint in SDP says.
    parameters.distinguished_name.push(DnType::CommonName, "media");
    let certificate = parameters.self_signed(&key)?;
    Ok(Identity::new(certificate.der().to_vec(), key.serialize_der()))
}
