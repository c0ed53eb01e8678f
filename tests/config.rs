//! The configuration reader: good files load, bad ones name every fault with line, key and reason.

#[path = "config/slips.rs"]
mod slips;

use std::path::Path;
use std::time::Duration;

use tonewall::config::{
    Checked, Codec, Config, GuardMode, KekRef, ListenerId, MaskKind, RecordingPolicy, Role, SCHEMA, SecretSource,
    Surroundings, Transport, TrunkId,
};

const SMALL: &str = include_str!("../config/small.toml");
const REFERENCE: &str = include_str!("../config/reference.toml");

fn hex_of(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn good(name: &str, text: &str) -> Config {
    Config::parse(name, text).unwrap_or_else(|faults| panic!("{faults}"))
}

#[test]
fn the_small_example_loads_with_the_documented_defaults() {
    let config = good("small.toml", SMALL);
    assert_eq!(config.node.max_calls, 2_500);
    assert_eq!(config.listeners[0].transport, Transport::Udp);
    assert_eq!(config.listeners[0].advertise, config.listeners[0].address);
    assert_eq!(config.media.ports, (20_000, 29_999));
    assert_eq!(config.media.inactivity, Duration::from_secs(60));
    assert_eq!(config.media.port_quarantine, Duration::from_secs(2));
    let carrier = &config.trunks[0];
    assert_eq!(carrier.listener, ListenerId(0));
    assert_eq!(carrier.guard, GuardMode::Always);
    assert_eq!((carrier.mask, carrier.recording), (MaskKind::Silence, RecordingPolicy::Off));
    assert_eq!(carrier.codecs, [Codec::Pcmu, Codec::Pcma]);
    assert!(carrier.dtmf.events && carrier.dtmf.info);
    assert_eq!((carrier.hold_default.as_secs(), carrier.hold_max.as_secs()), (300, 1_800));
    assert_eq!(carrier.sources.len(), 1);
    assert_eq!(carrier.sources, carrier.media);
    assert!(carrier.sources[0].contains("198.51.100.7".parse().expect("ip")));
    assert!(!carrier.sources[0].contains("198.51.100.8".parse().expect("ip")));
    assert_eq!((carrier.max_calls, carrier.ptime_ms), (2_500, 20));
    assert_eq!((config.routes[1].from, config.routes[1].to.as_slice()), (TrunkId(1), &[TrunkId(0)][..]));
    assert!(config.control.is_none() && config.keys.current.is_none());
}

#[test]
fn guard_auto_has_its_patience_from_the_file_or_by_default() {
    let auto = |more: &str| {
        let text = SMALL.replace("guard = \"always\"", &format!("guard = \"auto\"\n{more}"));
        let trunk = good("small.toml", &text).trunks[0].clone();
        assert_eq!(trunk.guard, GuardMode::Auto);
        let ms = |time: Duration| time.as_millis();
        let auto = trunk.auto;
        (ms(auto.quiet), ms(auto.number_quiet), auto.leading, ms(auto.long_quiet), auto.payment.as_secs())
    };
    assert_eq!(auto(""), (1_200, 4_000, 0, 0, 60));
    let all = "auto_quiet_ms = 1000\nauto_number_quiet_ms = 5000\nauto_release_leading = 1\nauto_long_quiet_ms = 9000\n\
               auto_payment_s = 90";
    assert_eq!(auto(all), (1_000, 5_000, 1, 9_000, 90));
}

#[test]
fn the_reference_loads_and_means_what_it_says() {
    let config = good("reference.toml", REFERENCE);
    let carrier = &config.trunks[0];
    assert_eq!((carrier.remotes.len(), carrier.max_calls), (2, 500));
    assert_eq!(carrier.link.targets.len(), 3);
    assert_eq!((carrier.link.targets[0].priority, carrier.link.targets[2].priority), (1, 9));
    assert!(carrier.link.has_names() && carrier.link.probe.every.as_secs() == 30);
    assert_eq!(config.bounds.nameservers.len(), 1);
    assert_eq!(carrier.call_header.as_deref(), Some("X-Call-Ref"));
    let star = config.trunks[1].star_codes.as_ref().expect("star codes");
    assert_eq!((star.begin.len(), star.end.len(), star.in_band), (3, 3, false));
    let control = config.control.expect("control");
    assert_eq!((control.keys[0].role, control.keys[0].sha256[31]), (Role::Integration, 1));
    assert_eq!(config.keys.current.expect("key").id, "2026-11");
    assert_eq!(config.routes[0].prefix, "+1");
}

/// Every key the reader knows stands in its section of the reference, in force or as a comment, and is explained.
#[test]
fn the_reference_names_every_key() {
    for (section, keys) in SCHEMA {
        let plain = section.replace("[]", "");
        let header = if section.ends_with(']') { format!("[[{plain}]]") } else { format!("[{plain}]") };
        let body = if section.is_empty() || *section == "keys" {
            REFERENCE.to_owned()
        } else {
            let (_, rest) = REFERENCE
                .split_once(&format!("\n{header}"))
                .or_else(|| REFERENCE.split_once(&format!("\n# {header}")))
                .unwrap_or_else(|| panic!("{header} is not in the reference"));
            let ends = |line: &str| line.starts_with('[') || line.starts_with("# [");
            rest.lines().take_while(|line| !ends(line)).collect::<Vec<_>>().join("\n")
        };
        for key in *keys {
            let path = if plain.is_empty() { (*key).to_owned() } else { format!("{plain}.{key}") };
            let is_section = SCHEMA.iter().any(|(name, _)| name.replace("[]", "") == path);
            let stands = |line: &str| {
                let line = line.trim_start_matches("# ");
                line.starts_with(&format!("{key} ")) && line.contains('#') && line.contains('=')
            };
            let found = is_section
                && REFERENCE
                    .lines()
                    .map(|l| l.trim_start_matches("# "))
                    .any(|l| l.starts_with(&format!("[{path}")) || l.starts_with(&format!("[[{path}")))
                || body.lines().any(stands);
            assert!(found, "{path} is not named and explained in the reference");
        }
    }
}

/// A key that lies in a file or in the environment is looked up by the given function, and hashed.
#[test]
fn api_keys_are_looked_up_where_the_file_says() {
    let base = REFERENCE.replace("sha256 = \"0000", "# sha256 = \"0000");
    let read = |line: &str, answer: Result<String, String>| {
        let text = base.replacen("# key_file = \"crm.key\"", line, 1);
        let asked = std::cell::RefCell::new(Vec::new());
        let secret = |source: &SecretSource| {
            asked.borrow_mut().push(source.clone());
            answer.clone()
        };
        let around = Surroundings { directory: Path::new("/etc/tonewall"), secret: &secret };
        let result = Checked::parse("t", &text, &around).map(|checked| checked.config);
        (result, asked.into_inner())
    };
    let (config, asked) = read("key_file = \"crm.key\"", Ok("a key text of some length".to_owned()));
    assert_eq!(asked, [SecretSource::File("/etc/tonewall/crm.key".into())]);
    let hash = hex_of(&config.expect("a configuration").control.expect("control").keys[0].sha256);
    assert_eq!(hash, "c525e0591b7813ea2c8dab9663abac5a2512763906ed9ee9193c48d900ef35d2");
    let (result, asked) = read("key_env = \"CRM\"", Err("is not set".to_owned()));
    assert_eq!(asked, [SecretSource::Variable("CRM".to_owned())]);
    assert_eq!(
        result.expect_err("a fault").iter().next().map(|fault| fault.key.as_str()),
        Some("control.key[0].key_env")
    );
    let (result, _) = read("key_env = \"CRM\"", Ok("short".to_owned()));
    assert!(result.expect_err("a fault").to_string().contains("fewer than 16 characters"));
    let (result, asked) = read("", Ok(String::new()));
    assert!(
        asked.is_empty() && result.expect_err("a fault").to_string().contains("give one of sha256, key_file, key_env")
    );
}

#[test]
fn last_digits_are_shown_only_where_the_file_says_so() {
    assert!(!good("small.toml", SMALL).payments.last_digits);
    assert!(good("t", &format!("[payments]\nlast_digits = true\n{SMALL}")).payments.last_digits);
    let faults = Config::parse("t", &format!("[payments]\nlast_digits = 4\n{SMALL}")).expect_err("a fault");
    assert!(faults.to_string().starts_with("t:2: payments.last_digits: is "), "{faults}");
}

#[test]
fn webhooks_are_read_with_their_secrets_and_each_slip_has_its_place() {
    let read = |more: &str, secret: &str| {
        let text = format!("[webhooks]\n[[webhooks.endpoint]]\n{more}\n{SMALL}");
        let secret = |_: &SecretSource| Ok(secret.to_owned());
        let around = Surroundings { directory: Path::new("/etc/tonewall"), secret: &secret };
        Checked::parse("t", &text, &around).map(|checked| checked.config.webhooks)
    };
    let fine = "name = \"crm\"\nurl = \"https://crm.example/x\"\nsecret_env = \"X\"";
    let key = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let hooks = read(fine, key).expect("no fault");
    let hook = &hooks.endpoints[0];
    assert_eq!((hook.name.as_str(), hook.url.host.as_str(), hook.url.port), ("crm", "crm.example", 443));
    assert!(hook.wants("payment-ended") && !hook.wants("call-ended") && !hook.allow_private && hook.ca.is_none());
    assert_eq!((hook.key.expose().len(), hooks.directory.as_path()), (24, Path::new("/var/lib/tonewall/webhooks")));
    assert!(!format!("{hooks:?}").contains("MfKQ"));
    let slip = |from: &str, to: &str, secret: &str| {
        let faults = read(&fine.replace(from, to), secret).expect_err("a fault").to_string();
        assert!(!faults.contains("MfKQ") && !faults.contains("c2hvcnQ"), "{faults}");
        faults
    };
    let crm = "url = \"https://crm.example/x\"";
    for (from, to, secret, place) in [
        ("name = \"crm\"", "name = \"c r m\"", key, "t:3: webhooks.endpoint[0].name:"),
        (crm, "url = \"http://crm.example/x\"", key, "t:4: webhooks.endpoint[0].url:"),
        (crm, "", key, "webhooks.endpoint[0].url: is missing"),
        ("secret_env = \"X\"", "", key, "webhooks.endpoint[0].secret_file: is missing"),
        ("X", "X", "whsec_c2hvcnQ=", "webhooks.endpoint[0].secret_env: must hold"),
        ("X\"", "X\"\nevents = [\"Payment\"]", key, "t:6: webhooks.endpoint[0].events[0]:"),
        ("X\"", "X\"\nallow_private = 1", key, "t:6: webhooks.endpoint[0].allow_private:"),
        ("X\"", "X\"\nca = 1", key, "t:6: webhooks.endpoint[0].ca:"),
        ("X\"", "X\"\nretries = 1", key, "t:6: webhooks.endpoint[0].retries: no such key"),
    ] {
        let faults = slip(from, to, secret);
        assert!(faults.contains(place), "{place}: {faults}");
    }
    let faults = slip("X\"", "X\"\nformer_env = \"Y\"\nformer_file = \"y\"", key);
    assert!(faults.contains("webhooks.endpoint[0].former_env: former_file and former_env are given"), "{faults}");
    let both = read(&format!("{fine}\nformer_env = \"Y\""), key).expect("no fault");
    assert!(both.endpoints[0].former.is_some() && hook.former.is_none());
    let twice = format!("{fine}\n[[webhooks.endpoint]]\n{fine}");
    let faults = read(&twice, key).expect_err("a fault").to_string();
    assert!(faults.contains("webhooks.endpoint[1].name: an endpoint named \"crm\" stands above already"), "{faults}");
    let faults = Config::parse("t", &format!("[webhooks]\ndirectory = \"\"\n{SMALL}")).expect_err("a fault");
    assert!(faults.to_string().contains("t:2: webhooks.directory: is empty"), "{faults}");
}

#[test]
fn a_fault_is_printed_with_file_line_key_and_reason() {
    let text = SMALL.replacen("listener = \"carrier-side\"", "listener = \"carier-side\"", 1);
    let faults = Config::parse("tonewall.toml", &text).expect_err("a fault");
    assert_eq!(
        faults.to_string(),
        "tonewall.toml:18: trunk[0].listener: no listener is named \"carier-side\"; did you mean \"carrier-side\"?"
    );
}

#[test]
fn files_are_read_with_paths_from_their_directory() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("tonewall.toml");
    let text = format!("{SMALL}\n[keys.current]\nid = \"a\"\nfile = \"a.hex\"\n[storage]\nrecordings = \"rec\"\n");
    std::fs::write(&path, text).expect("written");
    let config = Config::load(&path).unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!(config.keys.current, Some(KekRef::file("a", dir.path().join("a.hex"))));
    assert_eq!(config.storage.recordings, dir.path().join("rec"));
    std::fs::write(&path, b"[node]\nname = \"\xff\"\n").expect("written");
    let faults = Config::load(&path).expect_err("a fault").to_string();
    assert!(faults.ends_with("tonewall.toml:2: is not UTF-8 text"), "{faults}");
    let faults = Config::load(&dir.path().join("none.toml")).expect_err("a fault").to_string();
    assert!(faults.contains("none.toml: cannot be read: "), "{faults}");
}

#[test]
fn no_cut_of_the_reference_panics_and_none_passes_silently_wrong() {
    for end in (0..REFERENCE.len()).filter(|end| REFERENCE.is_char_boundary(*end)) {
        if let Err(faults) = Config::parse("t", &REFERENCE[..end]) {
            assert!(faults.iter().next().is_some(), "cut at {end}");
        }
    }
    for (start, line) in REFERENCE.lines().enumerate() {
        let rest: Vec<_> = REFERENCE.lines().skip(start + 1).collect();
        let without = Config::parse("t", &rest.join("\n"));
        assert!(
            without.is_ok() || without.is_err_and(|faults| !faults.to_string().contains("does not know why")),
            "{line}"
        );
    }
}
