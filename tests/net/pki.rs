//! Certificates for tests: authorities, what they sign, and rustls ends that show and check them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType,
    date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

/// An authority.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// What an authority signed.
#[derive(Clone)]
pub struct Signed {
    pub chain: String,
    pub key: String,
}

/// What shall stand in a certificate.
#[derive(Clone, Copy)]
pub struct Wish<'a> {
    pub names: &'a [&'a str],
    pub uris: &'a [&'a str],
    pub expired: bool,
    pub server_only: bool,
}

impl<'a> Wish<'a> {
    pub fn of(names: &'a [&'a str]) -> Self {
        Wish { names, uris: &[], expired: false, server_only: false }
    }
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.distinguished_name.push(DnType::CommonName, "an authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self { issuer: CertifiedIssuer::self_signed(params, key).expect("an authority") }
    }

    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    pub fn sign(&self, wish: Wish<'_>) -> Signed {
        let names: Vec<String> = wish.names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        // OpenSSL takes what names itself as its issuer for self-signed.
        params.distinguished_name.push(DnType::CommonName, "a peer");
        for uri in wish.uris {
            params.subject_alt_names.push(SanType::URI((*uri).try_into().expect("a URI")));
        }
        if wish.expired {
            params.not_before = date_time_ymd(2001, 1, 1);
            params.not_after = date_time_ymd(2002, 1, 1);
        }
        if wish.server_only {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        }
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        Signed { chain: certificate.pem(), key: key.serialize_pem() }
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).expect("a root");
        Arc::new(roots)
    }

    /// A client that trusts this authority.
    pub fn client(&self, shows: Option<&Signed>) -> Arc<ClientConfig> {
        self.client_with(shows, rustls::ALL_VERSIONS)
    }

    pub fn client_with(
        &self,
        shows: Option<&Signed>,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> Arc<ClientConfig> {
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
        let config = config.with_protocol_versions(versions).expect("versions").with_root_certificates(self.roots());
        Arc::new(match shows {
            Some(signed) => config.with_client_auth_cert(signed.chain(), signed.private()).expect("a certificate"),
            None => config.with_no_client_auth(),
        })
    }

    /// A server that asks clients for certificates of this authority.
    pub fn server(&self, shows: &Signed) -> Arc<ServerConfig> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let checks = rustls::server::WebPkiClientVerifier::builder_with_provider(self.roots(), provider.clone());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.expect("versions").with_client_cert_verifier(checks.build().expect("a verifier"));
        Arc::new(config.with_single_cert(shows.chain(), shows.private()).expect("a certificate"))
    }
}

impl Signed {
    pub fn chain(&self) -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_slice_iter(self.chain.as_bytes()).collect::<Result<_, _>>().expect("PEM")
    }

    pub fn private(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.key.as_bytes()).expect("PEM")
    }

    /// Writes `<name>.pem` and `<name>.key`.
    pub fn write(&self, dir: &Path, name: &str) -> PathBuf {
        let (chain, key) = (dir.join(format!("{name}.pem")), dir.join(format!("{name}.key")));
        std::fs::write(&chain, &self.chain).expect("the certificate");
        std::fs::write(&key, &self.key).expect("the key");
        crate::common::restrict(&key);
        chain
    }
}
