//! TLS of SIP: from the certificate files that a configuration names to what a handshake needs, and from a certificate
//! shown to the trunk it speaks for. TLS 1.2 and 1.3 by rustls over aws-lc-rs; no renegotiation, no early data.
//!
//! Who may speak for a trunk: a certificate that the trunk's own authorities vouch for, now, and that holds one of the
//! trunk's names (RFC 5922: `sip:` URIs where there are any, else DNS names; IP addresses too; never the common name).
//! Public authorities no longer sign certificates for clients, so one made for servers is taken from a client as well.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, ServerConfig,
    SignatureScheme,
};
use x509_parser::extensions::GeneralName;
use x509_parser::parse_x509_certificate;

use crate::config::{CertificateFiles, Config, ListenerId, Network, Transport, TrunkId};

/// A file that cannot be used, and the key of the configuration that names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileFault {
    /// Dotted key, `trunk[1].tls_ca`.
    pub key: String,
    /// What is wrong.
    pub reason: String,
}

impl std::fmt::Display for FileFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.key, self.reason)
    }
}

/// Everything handshakes need, read from files once.
pub(super) struct Material {
    listeners: Vec<Option<Arc<ServerConfig>>>,
    peers: Vec<Option<Arc<Peer>>>,
    /// Listener and end of life, in seconds since 1970, of each certificate of ours.
    lives: Vec<(ListenerId, i64)>,
}

/// The material in force. Connections that stand keep what they began with.
#[derive(Clone)]
pub(super) struct Current(Arc<RwLock<Arc<Material>>>);

impl Current {
    pub(super) fn new(material: Material) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(material))))
    }

    pub(super) fn get(&self) -> Arc<Material> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the files again; on a fault everything stays as it was.
    pub(super) fn reload(&self, config: &Config) -> Result<(), Vec<FileFault>> {
        let material = Material::load(config)?;
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(material);
        Ok(())
    }
}

/// A peer that is spoken to over TLS.
struct Peer {
    trunk: TrunkId,
    listener: ListenerId,
    sources: Vec<Network>,
    mutual: bool,
    vouch: Arc<Vouch>,
    /// For connections to it.
    connect: Arc<ClientConfig>,
}

/// Who may speak for a peer.
#[derive(Debug)]
struct Vouch {
    names: Vec<String>,
    as_client: Arc<dyn ClientCertVerifier>,
    as_server: Arc<WebPkiServerVerifier>,
}

/// Looks at every file a configuration names for TLS.
///
/// # Errors
/// Each file that cannot be used.
pub fn check(config: &Config) -> Result<(), Vec<FileFault>> {
    Material::load(config).map(|_| ())
}

impl Material {
    pub(super) fn load(config: &Config) -> Result<Self, Vec<FileFault>> {
        let mut reader = Reader { provider: Arc::new(aws_lc_rs::default_provider()), faults: Vec::new() };
        let mut lives = Vec::new();
        let mut shown: Vec<Vec<Arc<CertifiedKey>>> = Vec::new();
        for (at, listener) in config.listeners.iter().enumerate() {
            let list = listener.options.certificates.len() > 1;
            let mut certificates = Vec::new();
            for (nth, files) in listener.options.certificates.iter().enumerate() {
                let place = if list { format!("[{nth}]") } else { String::new() };
                let keys = [format!("listener[{at}].certificate{place}"), format!("listener[{at}].key{place}")];
                if let Some((certificate, life)) = reader.certificate(files, keys) {
                    lives.push((ListenerId(at), life));
                    certificates.push(certificate);
                }
            }
            shown.push(certificates);
        }
        let mut peers = Vec::new();
        for (at, trunk) in config.trunks.iter().enumerate() {
            peers.push(reader.peer(config, TrunkId(at), &shown[trunk.listener.0]).map(Arc::new));
        }
        let mut listeners = Vec::new();
        for (at, listener) in config.listeners.iter().enumerate() {
            let of_it = peers.iter().flatten().filter(|peer| peer.listener == ListenerId(at)).cloned().collect();
            listeners.push(match listener.transport {
                Transport::Tls => reader.server(at, shown[at].clone(), of_it).map(Arc::new),
                Transport::Udp | Transport::Tcp => None,
            });
        }
        if reader.faults.is_empty() { Ok(Self { listeners, peers, lives }) } else { Err(reader.faults) }
    }

    /// What a listener's handshakes start from.
    pub(super) fn server(&self, listener: ListenerId) -> Option<Arc<ServerConfig>> {
        self.listeners.get(listener.0)?.clone()
    }

    /// What a connection to a trunk's peer starts from: the configuration and the name asked for.
    pub(super) fn client(&self, trunk: TrunkId, remote: IpAddr) -> Option<(Arc<ClientConfig>, ServerName<'static>)> {
        let peer = self.peers.get(trunk.0)?.as_ref()?;
        let is_name = |name: &&String| name.parse::<IpAddr>().is_err();
        let asked = peer.vouch.names.iter().filter(is_name).find_map(|name| ServerName::try_from(name.clone()).ok());
        Some((peer.connect.clone(), asked.unwrap_or(ServerName::IpAddress(remote.into()))))
    }

    /// The trunk that a peer speaks for: by the certificate it has shown, else by its address alone where that is
    /// enough.
    pub(super) fn trunk_of(&self, listener: ListenerId, ip: IpAddr, shown: &[CertificateDer<'_>]) -> Option<TrunkId> {
        let here = |peer: &&Arc<Peer>| peer.listener == listener && peer.narrowest(ip).is_some();
        let now = UnixTime::now();
        let vouched = |peer: &&Arc<Peer>| match shown.split_first() {
            Some((end, between)) => peer.mutual && peer.vouch.client(end, between, now).is_ok(),
            None => false,
        };
        let by_name = || self.peers.iter().flatten().filter(here).find(vouched);
        let by_address =
            || self.peers.iter().flatten().filter(here).filter(|p| !p.mutual).max_by_key(|p| p.narrowest(ip));
        by_name().or_else(by_address).map(|peer| peer.trunk)
    }

    /// Listener and end of life, in seconds since 1970, of each certificate of ours.
    pub(super) fn lives(&self) -> &[(ListenerId, i64)] {
        &self.lives
    }
}

impl Peer {
    /// The longest prefix of its source networks that holds `ip`.
    fn narrowest(&self, ip: IpAddr) -> Option<u8> {
        self.sources.iter().filter(|net| net.contains(ip)).map(|net| net.prefix).max()
    }
}

impl Vouch {
    /// Whether the chain a client shows speaks for this peer.
    fn client(&self, end: &CertificateDer<'_>, between: &[CertificateDer<'_>], now: UnixTime) -> Result<(), Error> {
        match self.as_client.verify_client_cert(end, between, now) {
            Ok(_) => {}
            Err(Error::InvalidCertificate(
                CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. },
            )) => self.chain_of_server(end, between, &[], now)?,
            Err(error) => return Err(error),
        }
        self.named(end)
    }

    /// Whether the chain holds for a server. Names are not compared here: [`Vouch::named`] does.
    fn chain_of_server(
        &self,
        end: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<(), Error> {
        let nobody = ServerName::try_from("name.invalid").map_err(|_| Error::UnsupportedNameType)?;
        match self.as_server.verify_server_cert(end, between, &nobody, ocsp, now) {
            // The chain is looked at first, the name last.
            Ok(_)
            | Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn named(&self, end: &CertificateDer<'_>) -> Result<(), Error> {
        let held = names_of(end);
        if held.iter().any(|name| self.names.contains(name)) {
            Ok(())
        } else {
            Err(Error::InvalidCertificate(CertificateError::NotValidForName))
        }
    }
}

impl ServerCertVerifier for Vouch {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.chain_of_server(end_entity, intermediates, ocsp_response, now)?;
        self.named(end_entity)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.as_server.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.as_server.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.as_server.supported_verify_schemes()
    }
}

/// What a listener asks of clients: a certificate of one of its mutual peers, or none where an address is enough.
#[derive(Debug)]
struct AnyPeer {
    vouches: Vec<Arc<Vouch>>,
    mandatory: bool,
    hints: Vec<DistinguishedName>,
}

impl ClientCertVerifier for AnyPeer {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let mut why = Error::NoCertificatesPresented;
        for vouch in &self.vouches {
            match vouch.client(end_entity, intermediates, now) {
                Ok(()) => return Ok(ClientCertVerified::assertion()),
                Err(error) => why = error,
            }
        }
        Err(why)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &aws_lc_rs::default_provider().signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &aws_lc_rs::default_provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

/// A listener's certificates: the one that holds the name asked for, else the first.
#[derive(Debug)]
struct ByName(Vec<(Vec<String>, Arc<CertifiedKey>)>);

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let asked = hello.server_name().map(str::to_ascii_lowercase);
        let fits = |names: &[String]| asked.as_ref().is_some_and(|asked| names.iter().any(|name| covers(name, asked)));
        let found = self.0.iter().find(|(names, _)| fits(names)).or_else(|| self.0.first());
        found.map(|(_, certificate)| certificate.clone())
    }
}

/// Whether a name of ours, maybe a wildcard, is the one asked for.
fn covers(name: &str, asked: &str) -> bool {
    match (name.strip_prefix("*."), asked.split_once('.')) {
        (Some(parent), Some((_, rest))) => parent == rest,
        _ => name == asked,
    }
}

/// The names a certificate holds, in lower case (RFC 5922 section 7.1).
fn names_of(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok((_, read)) = parse_x509_certificate(certificate) else { return Vec::new() };
    let Ok(Some(names)) = read.subject_alternative_name() else { return Vec::new() };
    let (mut domains, mut hosts) = (Vec::new(), Vec::new());
    for name in &names.value.general_names {
        match name {
            GeneralName::URI(uri) => domains.extend(sip_domain(uri)),
            GeneralName::DNSName(name) => hosts.push(name.to_ascii_lowercase()),
            GeneralName::IPAddress(bytes) => hosts.extend(address(bytes).map(|ip| ip.to_string())),
            _ => {}
        }
    }
    if domains.is_empty() { hosts } else { domains }
}

/// The domain of a `sip:` URI that names a domain, not a user in one.
fn sip_domain(uri: &str) -> Option<String> {
    let (scheme, rest) = uri.split_once(':')?;
    let plain = !rest.contains(['@', ';', '?']) && !rest.is_empty();
    (scheme.eq_ignore_ascii_case("sip") && plain).then(|| rest.to_ascii_lowercase())
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(bytes).map(IpAddr::from).or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

/// Reads files and notes what is wrong with them.
struct Reader {
    provider: Arc<CryptoProvider>,
    faults: Vec<FileFault>,
}

impl Reader {
    fn fault(&mut self, key: impl Into<String>, reason: impl Into<String>) {
        self.faults.push(FileFault { key: key.into(), reason: reason.into() });
    }

    fn chain(&mut self, file: &Path, key: &str) -> Option<Vec<CertificateDer<'static>>> {
        let name = file.display();
        let read = fs::read(file).map_err(|error| format!("cannot read {name}: {error}"));
        let read = read.and_then(|text| {
            let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
            found.map_err(|error| format!("{name} is no PEM file: {error}"))
        });
        match read {
            Ok(found) if found.is_empty() => self.fault(key, format!("{name} holds no certificate")),
            Ok(found) => return Some(found),
            Err(reason) => self.fault(key, reason),
        }
        None
    }

    /// A certificate of ours with its private key, and its end of life.
    fn certificate(&mut self, files: &CertificateFiles, keys: [String; 2]) -> Option<(Arc<CertifiedKey>, i64)> {
        let chain = self.chain(&files.chain, &keys[0]);
        let private = self.private_key(&files.key, &keys[1]);
        let (chain, private) = (chain?, private?);
        let life = match parse_x509_certificate(&chain[0]) {
            Ok((_, read)) => read.validity().not_after.timestamp(),
            Err(error) => {
                self.fault(&keys[0], format!("{}: the certificate cannot be read: {error}", files.chain.display()));
                return None;
            }
        };
        match CertifiedKey::from_der(chain, private, &self.provider) {
            Ok(certified) => Some((Arc::new(certified), life)),
            Err(error) => {
                self.fault(&keys[1], format!("{} does not fit its certificate: {error}", files.key.display()));
                None
            }
        }
    }

    fn private_key(&mut self, file: &Path, key: &str) -> Option<PrivateKeyDer<'static>> {
        let name = file.display();
        let mode = match fs::metadata(file) {
            Ok(found) => found.permissions().mode() & 0o7777,
            Err(error) => {
                self.fault(key, format!("cannot read {name}: {error}"));
                return None;
            }
        };
        if mode & 0o007 != 0 {
            self.fault(key, format!("{name} may be read by everybody (mode {mode:04o}); `chmod 0400` it"));
            return None;
        }
        match PrivateKeyDer::from_pem_file(file) {
            Ok(private) => Some(private),
            Err(error) => {
                self.fault(key, format!("{name} holds no private key: {error}"));
                None
            }
        }
    }

    fn peer(&mut self, config: &Config, id: TrunkId, shown: &[Arc<CertifiedKey>]) -> Option<Peer> {
        let trunk = &config.trunks[id.0];
        let tls = trunk.link.tls.as_ref()?;
        let at = format!("trunk[{}]", id.0);
        let chain = self.chain(&tls.ca, &format!("{at}.tls_ca"))?;
        let mut roots = RootCertStore::empty();
        if let Some(error) = chain.into_iter().find_map(|authority| roots.add(authority).err()) {
            self.fault(format!("{at}.tls_ca"), format!("{}: {error}", tls.ca.display()));
            return None;
        }
        let roots = Arc::new(roots);
        let certificate = match &tls.certificate {
            Some(files) => self.certificate(files, [format!("{at}.tls_certificate"), format!("{at}.tls_key")])?.0,
            // Without one, its own fault has been noted.
            None => shown.first()?.clone(),
        };
        let made = self
            .verifiers(&roots)
            .map(|(as_client, as_server)| Arc::new(Vouch { names: tls.names.clone(), as_client, as_server }));
        let vouch = match made {
            Ok(vouch) => vouch,
            Err(reason) => {
                self.fault(format!("{at}.tls_ca"), reason);
                return None;
            }
        };
        let versions = ClientConfig::builder_with_provider(self.provider.clone()).with_protocol_versions(VERSIONS);
        let connect = versions
            .map_err(|error| self.fault(format!("{at}.tls_ca"), error.to_string()))
            .ok()?
            .dangerous()
            .with_custom_certificate_verifier(vouch.clone())
            .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certificate)));
        let remotes = trunk.remotes.iter().map(|at| at.ip());
        let hosts = remotes.map(|address| Network { address, prefix: if address.is_ipv4() { 32 } else { 128 } });
        let sources = trunk.sources.iter().copied().chain(hosts).collect();
        let (listener, mutual, connect) = (trunk.listener, tls.mutual, Arc::new(connect));
        Some(Peer { trunk: id, listener, sources, mutual, vouch, connect })
    }

    fn verifiers(&self, roots: &Arc<RootCertStore>) -> Result<Verifiers, String> {
        let client = WebPkiClientVerifier::builder_with_provider(roots.clone(), self.provider.clone()).build();
        let server = WebPkiServerVerifier::builder_with_provider(roots.clone(), self.provider.clone()).build();
        Ok((client.map_err(|error| error.to_string())?, server.map_err(|error| error.to_string())?))
    }

    fn server(&mut self, at: usize, shown: Vec<Arc<CertifiedKey>>, peers: Vec<Arc<Peer>>) -> Option<ServerConfig> {
        let versions = ServerConfig::builder_with_provider(self.provider.clone()).with_protocol_versions(VERSIONS);
        let versions =
            versions.map_err(|error| self.fault(format!("listener[{at}].transport"), error.to_string())).ok()?;
        let mandatory = peers.iter().all(|peer| peer.mutual);
        let vouches: Vec<_> = peers.iter().filter(|peer| peer.mutual).map(|peer| peer.vouch.clone()).collect();
        let checked = if vouches.is_empty() {
            versions.with_no_client_auth()
        } else {
            let hints = vouches.iter().flat_map(|vouch| vouch.as_client.root_hint_subjects().to_vec()).collect();
            versions.with_client_cert_verifier(Arc::new(AnyPeer { vouches, mandatory, hints }))
        };
        let names = |certificate: &CertifiedKey| certificate.end_entity_cert().map(names_of).unwrap_or_default();
        let by_name = shown.into_iter().map(|certificate| (names(&certificate), certificate)).collect();
        Some(checked.with_cert_resolver(Arc::new(ByName(by_name))))
    }
}

/// Of one peer's authorities: for clients, for servers.
type Verifiers = (Arc<dyn ClientCertVerifier>, Arc<WebPkiServerVerifier>);

/// RFC 8996: nothing below TLS 1.2.
const VERSIONS: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];
