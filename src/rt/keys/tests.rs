//! Keys from each source; services that go away and come back; a token, where SoftHSM is installed.

use std::fs;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use rand::SeedableRng;

use super::*;
use crate::base::Random;
use crate::base::ids::{CallId, RecordingId};
use crate::base::time::WallMs;
use crate::config::{KekCommand, KekToken, SecretPlace};
use crate::record::sealed::{Start, Verdict, Writer, rewrap, verify};
use crate::rt::keyfile::{load_keys, make_key, make_protected_key};

const HEX: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const CHILD: &str = "TONEWALL_KEYS_CHILD";
const VARIABLE: &str = "TONEWALL_TEST_KEK";

fn write(path: &Path, text: &str, mode: u32) {
    let _ = fs::remove_file(path);
    let file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path);
    std::io::Write::write_all(&mut file.expect("a file"), text.as_bytes()).expect("written");
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("permissions");
}

fn service(path: &Path, refresh_ms: u64, cache_ms: u64) -> crate::config::Keys {
    let command = KekCommand {
        argv: vec!["/bin/sh".into(), path.display().to_string()],
        timeout: Duration::from_secs(2),
        refresh: Duration::from_millis(refresh_ms),
        cache: Duration::from_millis(cache_ms),
    };
    let current = KekRef { id: "kms".into(), source: KekSource::Command(command) };
    crate::config::Keys { current: Some(current), old: Vec::new() }
}

fn one(source: KekSource) -> KekRef {
    KekRef { id: "k".into(), source }
}

/// A recording under `kek`, and whether `ring` reads it.
fn seal(kek: &Kek) -> Vec<u8> {
    let mut random = Random::seed_from_u64(3);
    let (recording, call) = (RecordingId::draw(&mut random), CallId::draw(&mut random));
    let start = Start::new(recording, call, "n", ["a", "b"], WallMs(1));
    let mut writer = Writer::create(Vec::new(), kek, start, &mut random).expect("sealed");
    writer.lost().expect("written");
    writer.close(WallMs(2)).expect("closed");
    writer.into_storage()
}

fn reads(bytes: &[u8], ring: &KeyRing) -> bool {
    verify(bytes, None, None, ring, &mut |_| Ok(())).is_ok_and(|report| report.verdict == Verdict::Intact)
}

#[test]
fn a_protected_file_opens_with_its_passphrase_and_tells_what_is_wrong_otherwise() {
    let root = tempfile::tempdir().expect("a directory");
    let (file, plain, word) = (root.path().join("k"), root.path().join("plain"), root.path().join("word"));
    make_protected_key(&file, "open sesame").expect("made");
    make_key(&plain).expect("made");
    write(&word, "open sesame\nsecond line\n", 0o400);
    let with = |file: &PathBuf, passphrase| load_key(&one(KekSource::File { file: file.clone(), passphrase }));
    let from_file = || Some(SecretPlace::File(word.clone()));
    let kek = with(&file, from_file()).expect("a key");
    let said = Some(SecretPlace::Command(vec!["/bin/echo".into(), "open sesame".into()]));
    assert_eq!(with(&file, said).expect("a key").fingerprint(), kek.fingerprint());
    for (file, passphrase, told) in [
        (&file, None, "a passphrase protects it"),
        (&plain, from_file(), "no passphrase protects it"),
        (&file, Some(SecretPlace::Command(vec!["/bin/echo".into(), "wrong".into()])), "not the one"),
        (&file, Some(SecretPlace::Variable("TONEWALL_NOT_SET".into())), "is not set"),
        (&file, Some(SecretPlace::Command(vec!["/bin/false".into()])), "failed"),
    ] {
        let error = with(file, passphrase).expect_err("refused").to_string();
        assert!(error.contains(told) && !error.contains("sesame"), "{error}");
    }
    fs::set_permissions(&word, fs::Permissions::from_mode(0o644)).expect("opened");
    assert!(with(&file, from_file()).expect_err("refused").to_string().contains("may be read by others"));
}

#[test]
fn a_command_gives_a_key_or_is_told_to_have_failed_hung_or_talked_nonsense() {
    let root = tempfile::tempdir().expect("a directory");
    let script = root.path().join("kms");
    let configured = service(&script, 1_000, 1_000);
    for (text, told) in [
        (format!("echo {HEX}"), None),
        ("exit 3".into(), Some("exit status: 3")),
        ("echo abc".into(), Some("expected 64 hexadecimal digits")),
        ("sleep 30 & wait".into(), Some("did not end within 2 s")),
        ("yes | head -c 100000".into(), Some("more than 65536 bytes")),
    ] {
        write(&script, &text, 0o500);
        let begun = Instant::now();
        let loaded = load_keys(&configured);
        assert!(begun.elapsed() < Duration::from_secs(10), "{text}");
        match told {
            None => assert_eq!(loaded.expect("a ring").current().map(Kek::id), Some("kms")),
            Some(told) => assert!(loaded.expect_err("refused").to_string().contains(told), "{text}"),
        }
    }
}

#[test]
fn a_service_that_is_down_leaves_its_key_in_force_for_a_time_and_then_nothing_is_sealed() {
    let root = tempfile::tempdir().expect("a directory");
    let script = root.path().join("kms");
    write(&script, &format!("echo {HEX}"), 0o500);
    let keys = Keys::load(&service(&script, 1_000, 3_000)).expect("keys");
    let kek = keys.current().expect("a key");
    write(&script, "exit 1", 0o500);
    let begun = Instant::now();
    let after = |ms| begun + Duration::from_millis(ms);
    assert!(keys.look(after(1_500)));
    assert!(keys.current().is_ok() && reads(&seal(&kek), &keys.ring()), "cached");
    keys.look(after(3_600));
    let down = keys.current().expect_err("run out");
    assert!(down.to_string().contains("\"kms\"") && down.to_string().contains("cache_s"), "{down}");
    assert!(!reads(&seal(&kek), &keys.ring()), "nor is anything read with it");
    // Another key under the same id would make recordings nobody can read later.
    write(&script, &format!("echo {}", HEX.replace("00", "ff")), 0o500);
    keys.look(after(5_000));
    assert!(keys.current().is_err());
    write(&script, &format!("echo {HEX}"), 0o500);
    keys.look(after(6_500));
    assert_eq!(keys.current().expect("back").fingerprint(), kek.fingerprint());
}

#[test]
fn a_reload_puts_all_keys_in_force_or_none() {
    let root = tempfile::tempdir().expect("a directory");
    let file = |name: &str| root.path().join(name);
    ["a", "b"].iter().for_each(|name| make_key(&file(name)).expect("made"));
    let of = |current: &str, old: &[&str]| crate::config::Keys {
        current: Some(KekRef::file(current, file(current))),
        old: old.iter().map(|name| KekRef::file(name, file(name))).collect(),
    };
    let keys = Keys::load(&of("a", &[])).expect("keys");
    let under_a = seal(&keys.current().expect("a key"));
    assert!(keys.reload(&of("b", &["a", "gone"])).is_err());
    assert_eq!(keys.current().expect("a key").id(), "a", "a reload that fails changes nothing");
    assert_eq!(keys.reload(&of("b", &["a"])).expect("reloaded").as_deref(), Some("b"));
    assert_eq!(keys.reload(&of("b", &["a"])).expect("reloaded"), None);
    let under_b = seal(&keys.current().expect("a key"));
    assert!(reads(&under_a, &keys.ring()) && reads(&under_b, &keys.ring()));
    // Rewrapped, the old one is readable without the old key.
    let mut random = Random::seed_from_u64(9);
    let done = rewrap(&under_a, &keys.ring(), &keys.current().expect("a key"), &mut random).expect("rewrapped");
    let done = done.expect("it was under another key");
    let moved = [&done.header[..], &under_a[done.old_len..]].concat();
    keys.reload(&of("b", &[])).expect("reloaded");
    assert!(!reads(&under_a, &keys.ring()) && reads(&moved, &keys.ring()));
}

/// This test's own binary with what it needs in its environment.
fn child(how: &str, root: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this binary"));
    command
        .args(["--exact", "rt::keys::tests::as_a_child_with_an_environment_of_its_own", "--nocapture"])
        .env(CHILD, how)
        .env("TONEWALL_KEYS_ROOT", root)
        .env("SOFTHSM2_CONF", root.join("softhsm2.conf"))
        .env(VARIABLE, HEX);
    command
}

#[test]
fn a_variable_gives_a_key() {
    let root = tempfile::tempdir().expect("a directory");
    let run = child("variable", root.path()).output().expect("the child");
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stdout));
    assert!(load_key(&one(KekSource::Variable("TONEWALL_NOT_SET".into()))).is_err());
}

const SOFTHSM: [&str; 2] = ["/usr/lib/softhsm/libsofthsm2.so", "/usr/lib64/softhsm/libsofthsm.so"];

#[test]
fn a_token_wraps_and_unwraps_and_its_key_never_leaves_it() {
    if !SOFTHSM.iter().any(|path| Path::new(path).exists()) {
        eprintln!("!!! SKIPPED: no SoftHSM here (apt-get install softhsm2): keys in PKCS#11 tokens are not tested");
        return;
    }
    let root = tempfile::tempdir().expect("a directory");
    fs::create_dir(root.path().join("tokens")).expect("a directory");
    let config = format!("directories.tokendir = {}\nlog.level = ERROR\n", root.path().join("tokens").display());
    fs::write(root.path().join("softhsm2.conf"), config).expect("written");
    let made = Command::new("softhsm2-util")
        .args(["--init-token", "--free", "--label", "tonewall", "--so-pin", "12345678", "--pin", "87654321"])
        .env("SOFTHSM2_CONF", root.path().join("softhsm2.conf"))
        .output()
        .expect("softhsm2-util");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let run = child("token", root.path()).output().expect("the child");
    let said = format!("{}{}", String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success() && said.contains("token done"), "{said}");
}

#[test]
fn as_a_child_with_an_environment_of_its_own() {
    match std::env::var(CHILD).as_deref() {
        Ok("variable") => {
            let kek = load_key(&one(KekSource::Variable(VARIABLE.into()))).expect("a key");
            assert_eq!(kek.fingerprint(), Kek::parse("x", HEX).expect("a key").fingerprint());
        }
        Ok("token") => token(&PathBuf::from(std::env::var_os("TONEWALL_KEYS_ROOT").expect("the parent says"))),
        // Run with the others it has nothing to do: its parent is the test above.
        _ => assert!(std::env::var(VARIABLE).is_err()),
    }
}

fn token(root: &Path) {
    use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
    use cryptoki::mechanism::Mechanism;
    use cryptoki::object::Attribute;
    use cryptoki::session::UserType;
    use cryptoki::types::AuthPin;

    let module = SOFTHSM.iter().map(PathBuf::from).find(|path| path.exists()).expect("SoftHSM");
    {
        let pkcs11 = Pkcs11::new(&module).expect("loaded");
        pkcs11.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)).expect("initialised");
        let slot = pkcs11.get_slots_with_initialized_token().expect("slots")[0];
        let session = pkcs11.open_rw_session(slot).expect("a session");
        session.login(UserType::User, Some(&AuthPin::new("87654321".to_owned().into()))).expect("logged in");
        for label in ["kek-1", "kek-2"] {
            let template = [
                Attribute::Token(true),
                Attribute::Sensitive(true),
                Attribute::Extractable(false),
                Attribute::Encrypt(true),
                Attribute::Decrypt(true),
                Attribute::ValueLen(32.into()),
                Attribute::Label(label.as_bytes().to_vec()),
            ];
            session.generate_key(&Mechanism::AesKeyGen, &template).expect("a key");
        }
    }
    write(&root.join("pin"), "87654321\n", 0o400);
    let place = |label: &str| KekToken {
        module: module.clone(),
        token: "tonewall".into(),
        label: label.into(),
        pin: SecretPlace::File(root.join("pin")),
        timeout: Duration::from_secs(10),
    };
    let one = token::open("hsm-1", &place("kek-1")).expect("a key");
    let two = token::open("hsm-2", &place("kek-2")).expect("a key");
    assert_ne!(one.fingerprint(), two.fingerprint());
    assert_eq!(one.fingerprint(), token::open("hsm-1", &place("kek-1")).expect("a key").fingerprint());
    let ring = |kek: &Kek| KeyRing::new(Some(kek.clone()), Vec::new()).expect("a ring");
    let bytes = seal(&one);
    assert!(reads(&bytes, &ring(&one)) && !reads(&bytes, &ring(&two)));
    // A bit of the wrapped key flipped is told as tampering, not as a token that is down.
    let mut flipped = bytes.clone();
    flipped[57 + 1 + 5 + 8 + 12 + 3] ^= 1;
    let report = verify(&flipped[..], None, None, &ring(&one), &mut |_| Ok(())).expect("a verdict");
    assert!(matches!(report.verdict, Verdict::Tampered { .. }), "{:?}", report.verdict);
    // From a token to a file and back.
    let plain = Kek::parse("plain", HEX).expect("a key");
    let both = KeyRing::new(Some(plain.clone()), vec![one.clone()]).expect("a ring");
    let moved = rewrap(&bytes, &both, &plain, &mut Random::seed_from_u64(1)).expect("rewrapped").expect("moved");
    assert!(reads(&[&moved.header[..], &bytes[moved.old_len..]].concat(), &ring(&plain)));
    for (change, told) in [
        (KekToken { token: "other".into(), ..place("kek-1") }, "no token is labelled"),
        (place("kek-9"), "no AES key is labelled"),
        (KekToken { module: "/nowhere.so".into(), ..place("kek-1") }, "cannot be loaded"),
    ] {
        let error = token::open("x", &change).expect_err("refused");
        assert!(error.contains(told) && !error.contains("87654321"), "{error}");
    }
    eprintln!("token done");
}
