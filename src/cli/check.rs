//! `tonewall check FILE`: reads the configuration and looks at what it names on this machine (key files, recordings
//! directory). A configuration path goes in; a few lines that say what would run, or every fault, come out. Nothing is
//! bound, written or started.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use crate::config::{Checked, Config, Fault, Faults, GuardMode, RecordingPolicy, Side, Srtp, SrtpKeying, Transport};
use crate::record::keys::Kek;
use crate::rt::audit;
use crate::rt::keyfile::load_key;
use crate::rt::psp::trust;
use crate::rt::sip::tls;
use crate::rt::webhooks;

/// Prints the verdict on `path`: what would run (status 0), or one line per fault on standard error.
pub fn run(path: &Path) -> ExitCode {
    let done = match check(path) {
        Ok(summary) => writeln!(std::io::stdout(), "{summary}").map(|()| ExitCode::SUCCESS),
        Err(faults) => {
            let count = faults.iter().count();
            let word = if count == 1 { "fault" } else { "faults" };
            writeln!(std::io::stderr(), "{faults}\n{count} {word}").map(|()| ExitCode::from(super::EXIT_FAILED))
        }
    };
    done.unwrap_or(ExitCode::from(super::EXIT_FAILED))
}

/// A configuration without a fault, and what was had while it was looked at.
pub struct Examined {
    /// The configuration.
    pub config: Config,
    /// Its key-encryption keys, the current one first: whoever goes on with them need not fetch them again.
    pub keks: Vec<Kek>,
}

/// Checks the file `path` and what it names on this machine; says in a few lines what would run.
pub fn check(path: &Path) -> Result<String, Faults> {
    examine(path).map(|Examined { config, .. }| summary(path, &config))
}

/// Checks the file `path` and what it names on this machine.
pub fn examine(path: &Path) -> Result<Examined, Faults> {
    let Checked { config, places } = Checked::load(path)?;
    let mut faults: Vec<Fault> = Vec::new();
    let current = config.keys.current.iter().map(|key| (format!("keys.current.{}", key.source.key()), key));
    let old = config.keys.old.iter().enumerate();
    let old = old.map(|(index, key)| (format!("keys.old[{index}].{}", key.source.key()), key));
    let mut keks = Vec::new();
    for (place, key) in current.chain(old) {
        match load_key(key) {
            Ok(kek) => keks.push(kek),
            Err(error) => faults.push(places.fault(&place, error.to_string())),
        }
    }
    if config.seals() {
        let fault = directory(&config.storage.recordings).err();
        faults.extend(fault.map(|reason| places.fault("storage.recordings", reason)));
    }
    if let Err(found) = tls::check(&config) {
        faults.extend(found.into_iter().map(|fault| places.fault(&fault.key, fault.reason)));
    }
    if let Err(found) = webhooks::check(&config.webhooks) {
        faults.extend(found.into_iter().map(|fault| places.fault(&fault.key, fault.reason)));
    }
    if !config.webhooks.endpoints.is_empty() {
        let fault = directory(&config.webhooks.directory).err();
        faults.extend(fault.map(|reason| places.fault("webhooks.directory", reason)));
    }
    if config.connectors.iter().any(|connector| !connector.sandbox) {
        let above = config.storage.payments.parent().filter(|above| !above.as_os_str().is_empty());
        let fault = directory(above.unwrap_or(Path::new("."))).err();
        faults.extend(fault.map(|reason| places.fault("storage.payments", reason)));
    }
    if let Err(found) = trust::check(&config) {
        faults.extend(found.into_iter().map(|fault| places.fault(&fault.key, fault.reason)));
    }
    if let Some(audit) = &config.audit {
        let key = audit::keys::load(&audit.key).err();
        faults.extend(key.map(|reason| places.fault("audit.key", reason)));
        let fault = directory(&audit.directory).err();
        faults.extend(fault.map(|reason| places.fault("audit.directory", reason)));
        for (at, reason) in audit::check(&audit.ships).err().unwrap_or_default() {
            faults.push(places.fault(&format!("audit.ship[{at}].ca"), reason));
        }
    }
    match Faults::new(faults) {
        Some(faults) => Err(faults),
        None => Ok(Examined { config, keks }),
    }
}

/// The directory is there, or can be made because the one above it is.
fn directory(path: &Path) -> Result<(), String> {
    let name = path.display();
    match fs::metadata(path) {
        Ok(found) if !found.is_dir() => Err(format!("{name} is no directory")),
        Ok(found) if found.permissions().readonly() => Err(format!("{name} cannot be written to")),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let above = path.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
            if above.is_dir() { Ok(()) } else { Err(format!("neither {name} nor {} is there", above.display())) }
        }
        Err(error) => Err(format!("{name} cannot be looked at: {error}")),
    }
}

fn summary(path: &Path, config: &Config) -> String {
    let mut lines = vec![format!("{}: no fault; up to {} calls", path.display(), config.node.max_calls)];
    for trunk in config.trunks.iter().filter(|trunk| trunk.side != Side::Recorder) {
        let side = if trunk.side == Side::Carrier { "carrier" } else { "pbx" };
        let listener = &config.listeners[trunk.listener.0];
        let (at, transport) = (listener.address, listener.transport.name());
        let mut line = format!("trunk {:?} ({side}) on {transport} {at} {}", trunk.name, listener.name);
        if trunk.side == Side::Carrier {
            line += match trunk.guard {
                GuardMode::Off => ", guard off: digits pass",
                GuardMode::Signal => ", masked while a hold is taken",
                GuardMode::Auto => ", digits withheld and sent on when they are no card",
                GuardMode::Always => ", every digit masked",
            };
        }
        line += match trunk.recording {
            RecordingPolicy::Off => "",
            RecordingPolicy::BestEffort => ", recorded where possible",
            RecordingPolicy::Required => ", no call without recording",
        };
        line += match trunk.srtp {
            Srtp::Off => "",
            Srtp::Optional => ", media encrypted where the peer can",
            Srtp::Required => ", media encrypted",
        };
        lines.push(line);
        let readable = trunk.srtp != Srtp::Off && trunk.srtp_keying == SrtpKeying::Sdes;
        if readable && matches!(listener.transport, Transport::Udp | Transport::Tcp) {
            lines.push(format!(
                "warning: trunk {:?}: the keys of its media stand readable in SIP, which is not encrypted here; \
                 use TLS, or a network that nobody else hears",
                trunk.name
            ));
        }
    }
    match &config.audit {
        None => lines.push("warning: no [audit]: nothing will tell who did what".to_owned()),
        Some(audit) if audit.ships.is_empty() => lines.push(
            "warning: [audit] has no [[audit.ship]]: who can write the log and has its key can make it anew".to_owned(),
        ),
        Some(_) => {}
    }
    for route in &config.routes {
        let to: Vec<_> = route.to.iter().map(|trunk| config.trunks[trunk.0].name.as_str()).collect();
        let prefix = if route.prefix.is_empty() { String::new() } else { format!(" {}…", route.prefix) };
        lines.push(format!("route {}{prefix} to {}", config.trunks[route.from.0].name, to.join(", then ")));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const TEXT: &str = concat!(
        include_str!("../../config/small.toml"),
        "\n[keys.current]\nid = \"a\"\nfile = \"a.hex\"\n[storage]\nrecordings = \"rec\"\n"
    );

    fn with(files: &[(&str, &str)], text: &str) -> Result<String, String> {
        let dir = tempfile::tempdir().expect("a directory");
        for (name, content) in files {
            let file = dir.path().join(name);
            fs::write(&file, content).expect("written");
            fs::set_permissions(&file, fs::Permissions::from_mode(0o400)).expect("permissions");
        }
        let path = dir.path().join("t.toml");
        fs::write(&path, text).expect("written");
        let here = format!("{}/", dir.path().display());
        check(&path).map_err(|faults| faults.to_string().replace(&here, ""))
    }

    #[test]
    fn a_good_file_is_summed_up() {
        let text = TEXT.replace("guard = \"always\"", "guard = \"always\"\nrecording = \"required\"");
        let summary = with(&[("a.hex", &"5a1b".repeat(16))], &text).expect("no fault");
        assert!(summary.contains("every digit masked, no call without recording"), "{summary}");
        assert!(summary.contains("route carrier to pbx"), "{summary}");
    }

    #[test]
    fn keys_of_media_in_readable_sip_are_warned_of() {
        let text = TEXT.replace("guard = \"always\"", "guard = \"always\"\nsrtp = \"required\"");
        let summary = with(&[("a.hex", &"5a1b".repeat(16))], &text).expect("no fault");
        assert!(summary.contains("every digit masked, media encrypted\nwarning: trunk \"carrier\": "), "{summary}");
        assert!(!with(&[("a.hex", &"5a1b".repeat(16))], TEXT).expect("no fault").contains("warning: trunk"));
    }

    #[test]
    fn what_a_connector_names_is_looked_at() {
        let connector =
            "\n[[connector]]\nname = \"it\"\npreset = \"sandbox\"\nurl = \"https://psp.example\"\nca = \"ca.pem\"\n";
        let text =
            TEXT.replace("recordings = \"rec\"", "recordings = \"rec\"\npayments = \"none/deep/p.db\"") + connector;
        let faults = with(&[("a.hex", &"5a1b".repeat(16))], &text).expect_err("faults");
        let told: Vec<&str> = faults.lines().collect();
        assert_eq!(told.len(), 2, "{faults}");
        assert!(told[0].starts_with("t.toml:41: storage.payments: neither none/deep nor none is there"), "{faults}");
        assert!(told[1].starts_with("t.toml:47: connector[0].ca: ca.pem: cannot be read"), "{faults}");
        let text = text + "[[connector.secret]]\nname = \"key\"\nfile = \"psp.key\"\n";
        let faults = with(&[("a.hex", &"5a1b".repeat(16))], &text).expect_err("a fault");
        assert!(faults.starts_with("t.toml:50: connector[0].secret[0].file: file psp.key cannot be read"), "{faults}");
    }

    #[test]
    fn what_is_not_on_this_machine_is_a_fault_at_its_key() {
        let faults = with(&[], TEXT).expect_err("a fault");
        assert!(faults.starts_with("t.toml:38: keys.current.file: key \"a\": cannot read a.hex: "), "{faults}");
        let faults = with(&[("a.hex", "abc")], TEXT).expect_err("a fault");
        assert!(faults.contains("expected 64 hexadecimal digits"), "{faults}");
        let text = TEXT.replace("guard = \"always\"", "recording = \"best-effort\"").replace("\"rec\"", "\"none/rec\"");
        let faults = with(&[("a.hex", &"5a1b".repeat(16))], &text).expect_err("a fault");
        assert_eq!(faults, "t.toml:40: storage.recordings: neither none/rec nor none is there");
        let text = text.replace("\"none/rec\"", "\"a.hex\"");
        let faults = with(&[("a.hex", &"5a1b".repeat(16))], &text).expect_err("a fault");
        assert_eq!(faults, "t.toml:40: storage.recordings: a.hex is no directory");
    }
}
