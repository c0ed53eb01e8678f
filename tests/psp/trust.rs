//! TLS to providers: whom we trust, what we show, and that nothing is sent to anybody else; and redirects.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use tonewall::psp::{Failure, Outcome};

use crate::kit::{Desk, charge, config};
use crate::server::{Act, Server};

pub type Authority = CertifiedIssuer<'static, KeyPair>;

pub fn authority() -> Authority {
    let mut parameters = CertificateParams::new(Vec::new()).expect("parameters");
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(parameters, KeyPair::generate().expect("a key")).expect("an authority")
}

/// A certificate for `name`, signed; and its key.
pub fn signed(authority: &Authority, name: &str) -> (rcgen::Certificate, KeyPair) {
    let key = KeyPair::generate().expect("a key");
    let parameters = CertificateParams::new(vec![name.to_owned()]).expect("parameters");
    (parameters.signed_by(&key, authority).expect("a certificate"), key)
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// A provider that approves everything and asks for a certificate of `clients`; counts what reaches it.
pub fn serve(authority: &Authority, name: &str, clients: &Authority) -> (u16, Arc<AtomicUsize>) {
    let (certificate, key) = signed(authority, name);
    let mut roots = RootCertStore::empty();
    roots.add(clients.der().clone()).expect("an authority");
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).build().expect("a verifier");
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_client_cert_verifier(verifier)
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
        )
        .expect("a configuration");
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a socket");
    let port = listener.local_addr().expect("its address").port();
    let seen = Arc::new(AtomicUsize::new(0));
    let (config, counted) = (Arc::new(config), seen.clone());
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let session = ServerConnection::new(config.clone()).expect("a session");
            let mut stream = StreamOwned::new(session, stream);
            let mut bytes = [0; 4096];
            if let Ok(count @ 1..) = stream.read(&mut bytes) {
                counted.fetch_add(count, Ordering::SeqCst);
                let body = r#"{"id":"sbx_1","status":"approved","token":"tok_1"}"#;
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
                let _ = stream.write_all(format!("{head}{body}").as_bytes());
                stream.conn.send_close_notify();
                let _ = stream.flush();
            }
        }
    });
    (port, seen)
}

pub fn write(directory: &Path, name: &str, text: &str) -> String {
    let file = directory.join(name);
    std::fs::write(&file, text).expect("a file");
    file.display().to_string()
}

#[test]
fn a_provider_is_trusted_by_its_authority_and_name_and_we_show_our_certificate() {
    let directory = tempfile::tempdir().expect("a directory");
    let (theirs, ours, foreign) = (authority(), authority(), authority());
    let (certificate, key) = signed(&ours, "merchant.example");
    let ca = write(directory.path(), "ca.pem", &theirs.pem());
    let other = write(directory.path(), "other.pem", &foreign.pem());
    let chain = write(directory.path(), "our.pem", &certificate.pem());
    let key = write(directory.path(), "our.key", &key.serialize_pem());
    let pay = |seed: u64, host: &str, port: u16, more: &str| {
        let text = format!(
            "\n[[connector]]\nname = \"it\"\npreset = \"sandbox\"\nurl = \"https://{host}:{port}\"\ntimeout_ms = 1000\n\
             deadline_s = 2\nattempts = 2\nretry_ms = 20\n{more}\n"
        );
        let mut config = config(&text, directory.path());
        config.storage.payments = directory.path().join(format!("{seed}.db"));
        let mut desk = Desk::open(&config);
        tonewall::psp::Gateway::submit(&mut desk.psp, charge(seed, "4242424242424242"));
        desk.next().outcome
    };
    let shown = format!("certificate = \"{chain}\"\nkey = \"{key}\"\n");

    let (port, seen) = serve(&theirs, "localhost", &ours);
    let outcome = pay(1, "localhost", port, &format!("ca = \"{ca}\"\n{shown}"));
    assert!(matches!(outcome, Outcome::Approved { .. }), "{outcome:?}");
    assert!(seen.load(Ordering::SeqCst) > 0);

    // Another authority, or another name: not one byte of the request is sent, so nothing can have been charged.
    let (port, seen) = serve(&theirs, "localhost", &ours);
    let outcome = pay(2, "localhost", port, &format!("ca = \"{other}\"\n{shown}"));
    assert_eq!(outcome, Outcome::Failed { reason: Failure::Unavailable });
    let (port2, seen2) = serve(&theirs, "psp.example", &ours);
    let outcome = pay(3, "localhost", port2, &format!("ca = \"{ca}\"\n{shown}"));
    assert_eq!(outcome, Outcome::Failed { reason: Failure::Unavailable });
    assert_eq!(seen.load(Ordering::SeqCst) + seen2.load(Ordering::SeqCst), 0, "something was sent");

    // Without our certificate the provider hangs up, in TLS 1.3 after we have sent: that may not pass for a failure.
    let (port, seen) = serve(&theirs, "localhost", &ours);
    let outcome = pay(4, "localhost", port, &format!("ca = \"{ca}\"\n"));
    assert!(!matches!(outcome, Outcome::Approved { .. }), "{outcome:?}");
    assert_eq!(seen.load(Ordering::SeqCst), 0);
}

#[test]
fn a_file_of_a_connector_that_cannot_be_used_is_told_at_its_key() {
    let directory = tempfile::tempdir().expect("a directory");
    let bad = write(directory.path(), "bad.pem", "no certificate");
    let text = format!(
        "\n[[connector]]\nname = \"it\"\npreset = \"sandbox\"\nurl = \"https://psp.example\"\nca = \"{bad}\"\n"
    );
    let found = tonewall::rt::psp::trust::check(&config(&text, directory.path())).expect_err("a fault");
    assert_eq!((found.len(), found[0].key.as_str()), (1, "connector[0].ca"));
    assert!(found[0].reason.contains("holds no certificate"), "{}", found[0].reason);
}

#[test]
fn a_redirect_is_not_followed_anywhere() {
    let away = Arc::new(AtomicUsize::new(0));
    let counted = away.clone();
    let other = Server::start(move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
        Act::Answer(200, r#"{"status":"approved","id":"sbx_1"}"#.into())
    });
    let target = format!("{}/v1/charges", other.url());
    let server = Server::start(move |request| match request.method.as_str() {
        "POST" if !request.path.ends_with("/void") => Act::With(307, vec![("Location", target.clone())], String::new()),
        "POST" => Act::Answer(200, "{}".into()),
        _ => Act::Answer(404, "{}".into()),
    });
    let directory = tempfile::tempdir().expect("a directory");
    let text = format!(
        "\n[[connector]]\nname = \"it\"\npreset = \"sandbox\"\nurl = \"{}\"\nsettle_s = 0\ntimeout_ms = 1000\ndeadline_s = 2\n",
        server.url()
    );
    let outcome = Desk::open(&config(&text, directory.path())).pay(charge(1, "4242424242424242"));
    assert_eq!(outcome, Outcome::Failed { reason: Failure::NotCharged });
    assert_eq!(away.load(Ordering::SeqCst), 0, "the redirect was followed");
}
