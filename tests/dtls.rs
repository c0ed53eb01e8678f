//! Keys by handshake on real sockets: OpenSSL at the other end, which derives the same keys by its own exporter; and two
//! real nodes in a row, so that one's DTLS leg speaks to the other's.
#![allow(clippy::disallowed_methods)] // Tests may wait and open sockets.

mod common;

use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use common::{Plan, Running, free_port, installed, skip};
use sha2::{Digest, Sha256};
use tonewall::base::key::MediaKey;
use tonewall::config::SrtpSuite;
use tonewall::rt::peers::Exchange;
use tonewall::srtp::{Handshake, Identity, Role, Step};
use tonewall::testkit::keys::{Form, typed};
use tonewall::testkit::leak::Attackers;
use tonewall::testkit::rtp_peer::Sound;
use tonewall::testkit::ua::{Answer, Profile, UserAgent};

const PROFILES: [(SrtpSuite, &str); 3] = [
    (SrtpSuite::AesCm128Sha1_80, "SRTP_AES128_CM_SHA1_80"),
    (SrtpSuite::AesGcm128, "SRTP_AEAD_AES_128_GCM"),
    (SrtpSuite::AesGcm256, "SRTP_AEAD_AES_256_GCM"),
];

fn certificate() -> (rcgen::Certificate, rcgen::KeyPair) {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key");
    (rcgen::CertificateParams::default().self_signed(&key).expect("a certificate"), key)
}

/// OpenSSL with a certificate of its own in `dir`; gives the process, what it prints, and its fingerprint.
fn openssl(dir: &Path, arguments: &[String]) -> (Child, mpsc::Receiver<String>, [u8; 32]) {
    let (certificate, key) = certificate();
    std::fs::write(dir.join("c.pem"), certificate.pem()).expect("written");
    std::fs::write(dir.join("k.pem"), key.serialize_pem()).expect("written");
    let mut child = Command::new("openssl")
        .args(arguments)
        .args(["-dtls1_2", "-cert", "c.pem", "-key", "k.pem", "-keymatexport", "EXTRACTOR-dtls_srtp"])
        .current_dir(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("openssl starts");
    let mut stdout = child.stdout.take().expect("its output");
    let (send, told) = mpsc::channel();
    std::thread::spawn(move || {
        let mut buffer = [0; 4_096];
        while let Ok(length @ 1..) = stdout.read(&mut buffer) {
            let _ = send.send(String::from_utf8_lossy(&buffer[..length]).into_owned());
        }
    });
    (child, told, Sha256::digest(certificate.der()).into())
}

/// Lets a handshake run over a socket until it gives keys.
fn shake(
    mut handshake: Handshake,
    socket: &UdpSocket,
    mut peer: Option<SocketAddr>,
) -> (SrtpSuite, MediaKey, MediaKey) {
    socket.set_read_timeout(Some(Duration::from_millis(20))).expect("a timeout");
    let until = Instant::now() + Duration::from_secs(20);
    let (mut room, mut buffer, mut keys) = ([0; 2_048], [0; 2_048], None);
    while Instant::now() < until {
        let now = Instant::now();
        handshake.handle_timeout(now);
        while let Some(step) = handshake.poll(now, &mut room) {
            match step {
                Step::Transmit(length) => {
                    socket.send_to(&room[..length], peer.expect("a peer")).expect("sent");
                }
                Step::Keys(suite, theirs, ours) => keys = Some((suite, theirs, ours)),
            }
        }
        if let Some(keys) = keys.take() {
            return keys;
        }
        if let Ok((length, from)) = socket.recv_from(&mut buffer) {
            peer = Some(from);
            handshake.handle_packet(Instant::now(), &buffer[..length]);
        }
    }
    panic!("no keys: {handshake:?}");
}

/// OpenSSL's keying material, once it has printed it.
fn material(told: &mpsc::Receiver<String>) -> Vec<u8> {
    let until = Instant::now() + Duration::from_secs(10);
    let mut all = String::new();
    while Instant::now() < until {
        all += &told.recv_timeout(Duration::from_millis(100)).unwrap_or_default();
        if let Some((_, rest)) = all.split_once("Keying material: ")
            && let Some((hexadecimal, _)) = rest.split_once('\n')
        {
            return hex::decode(hexadecimal.trim()).expect("hexadecimal");
        }
    }
    panic!("OpenSSL never printed its keying material: {all}");
}

fn assert_same(suite: SrtpSuite, material: &[u8], client: &MediaKey, server: &MediaKey) {
    let (key, salt) = (suite.key_len(), suite.salt_len());
    let (keys, salts) = material.split_at(2 * key);
    assert_eq!(client.expose(), [&keys[..key], &salts[..salt]].concat(), "{suite:?} client's");
    assert_eq!(server.expose(), [&keys[key..], &salts[salt..]].concat(), "{suite:?} server's");
}

fn ready(test: &str) -> bool {
    let ready = installed("openssl");
    if !ready {
        skip(test, "openssl is not installed (Debian: apt-get install openssl)");
    }
    ready
}

#[test]
fn openssl_waiting_derives_the_keys_we_derive() {
    if !ready("dtls_openssl_server") {
        return;
    }
    for (suite, profile) in PROFILES {
        let dir = tempfile::tempdir().expect("a directory");
        let port = free_port();
        let length = 2 * (suite.key_len() + suite.salt_len());
        let arguments =
            format!("s_server -accept 127.0.0.1:{port} -verify 1 -use_srtp {profile} -keymatexportlen {length}");
        let arguments: Vec<String> = arguments.split(' ').map(str::to_owned).collect();
        let (mut child, told, fingerprint) = openssl(dir.path(), &arguments);
        let first = told.recv_timeout(Duration::from_secs(10)).expect("it starts");
        assert!(first.contains("ACCEPT") || !first.is_empty());
        let (certificate, key) = certificate();
        let identity = Identity::new(certificate.der().to_vec(), key.serialize_der());
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
        let handshake = Handshake::new(Instant::now(), identity.into(), Role::Active, fingerprint);
        let (agreed, theirs, ours) = shake(handshake, &socket, Some(SocketAddr::from((Ipv4Addr::LOCALHOST, port))));
        assert_eq!(agreed, suite);
        assert_same(suite, &material(&told), &ours, &theirs);
        let _ = child.kill();
        let _ = child.wait();
    }
}

#[test]
fn openssl_calling_derives_the_keys_we_derive() {
    if !ready("dtls_openssl_client") {
        return;
    }
    for (suite, profile) in PROFILES {
        let dir = tempfile::tempdir().expect("a directory");
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
        let at = socket.local_addr().expect("its address");
        let length = 2 * (suite.key_len() + suite.salt_len());
        let arguments = format!("s_client -connect {at} -use_srtp {profile} -keymatexportlen {length}");
        let arguments: Vec<String> = arguments.split(' ').map(str::to_owned).collect();
        let (mut child, told, fingerprint) = openssl(dir.path(), &arguments);
        let (certificate, key) = certificate();
        let identity = Identity::new(certificate.der().to_vec(), key.serialize_der());
        let handshake = Handshake::new(Instant::now(), identity.into(), Role::Passive, fingerprint);
        let (agreed, theirs, ours) = shake(handshake, &socket, None);
        assert_eq!(agreed, suite);
        assert_same(suite, &material(&told), &theirs, &ours);
        let _ = child.kill();
        let _ = child.wait();
    }
}

fn sine(hz: f64) -> Sound {
    Box::new((0..).map(move |n| (2_000.0 * (std::f64::consts::TAU * hz * f64::from(n) / 8_000.0).sin()) as i16))
}

/// Whether `hz` makes up most of the second half of `heard`.
fn sounds(heard: &[i16], hz: f64) -> bool {
    let part = &heard[heard.len() / 2..];
    let (mut re, mut im, mut all) = (0.0, 0.0, 0.0);
    for (n, sample) in part.iter().enumerate() {
        let (x, w) = (f64::from(*sample), std::f64::consts::TAU * hz * n as f64 / 8_000.0);
        re += x * w.cos();
        im += x * w.sin();
        all += x * x;
    }
    !part.is_empty() && (re * re + im * im) * 2.0 / part.len() as f64 > 0.2 * all && all > 0.0
}

#[test]
fn two_nodes_with_a_dtls_leg_between_them_carry_a_guarded_call() {
    for srtp in ["required", "optional"] {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let local = IpAddr::from(Ipv4Addr::LOCALHOST);
            let dtls = format!("srtp = \"{srtp}\"\nsrtp_keying = \"dtls\"\n");
            let answering = Profile::new("5551000").answering(Answer::After(100));
            let mut pbx = Exchange::open(local, 0, Some(answering), 4).await.expect("a PBX port");
            let carrier = Exchange::open(local, 0, None, 3).await.expect("a carrier port");
            // Each node must know the other's SIP address before it starts: the near one's PBX side is fixed.
            let (near, far) = (common::free_address(), common::free_address());
            let far_plan = Plan {
                carrier: near,
                pbx: pbx.address(),
                guard: "off",
                trunks: [dtls.clone(), String::new()],
                sides: Some([far, common::free_address()]),
                ..Plan::new()
            };
            let near_plan = Plan {
                carrier: carrier.address(),
                pbx: far,
                guard: "always",
                trunks: [String::new(), dtls],
                sides: Some([common::free_address(), near]),
                ..Plan::new()
            };
            let (far_node, near_node) =
                tokio::task::block_in_place(|| (Running::start(&far_plan), Running::start(&near_plan)));
            let caller = carrier.phone(Profile::new("+15550100")).expect("RTP ports");
            caller.with(|a, now| {
                a.rtp.speak(sine(440.0));
                a.invite(now, "phone", near_node.carrier_side);
            });
            let agent = pbx.ringing(Duration::from_secs(20)).await.expect("a call arrives");
            agent.with(|a, _| a.rtp.speak(sine(600.0)));
            assert!(caller.until(Duration::from_secs(20), UserAgent::is_up).await, "{:?}", caller.events());
            tokio::time::sleep(Duration::from_millis(2_500)).await;
            caller.with(|a, _| {
                a.press(0, typed("424242", Form::Event, 100, 80));
                a.press(0, typed("171717", Form::Tone, 100, 80));
            });
            assert!(caller.until(Duration::from_secs(20), |a| !a.rtp.is_keying()).await);
            tokio::time::sleep(Duration::from_millis(2_000)).await;
            let (heard, events) = agent.with(|a, _| (a.rtp.heard.samples(), a.rtp.heard.event_codes()));
            let caller_heard = caller.with(|a, _| a.rtp.heard.samples());
            caller.with(UserAgent::hang_up);
            tokio::time::sleep(Duration::from_millis(300)).await;
            assert!(sounds(&heard, 440.0), "{srtp}: the agent hears the caller");
            assert!(sounds(&caller_heard, 600.0), "{srtp}: the caller hears the agent");
            assert!(events.is_empty(), "no key passes");
            assert!(Attackers::new().listen(&heard).nothing_decoded());
            drop((far_node, near_node));
        });
    }
}
