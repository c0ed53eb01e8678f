//! Slips in the section of a SIPREC recorder.

use tonewall::config::Config;

use crate::SMALL;

const RECORDER: &str = "[[listener]]\nname = \"rec\"\ntransport = \"tcp\"\naddress = \"192.0.2.5:5070\"\n[[recorder]]\nname = \"q\"\nkind = \"siprec\"\nlistener = \"rec\"\nremotes = [\"192.0.2.40:5060\"]\n";

/// What is wrong with a recorder, by the words it is replaced with; lines and keys as the other slips have them.
#[test]
fn every_slip_in_a_recorder_gets_its_fault() {
    let base = SMALL.replace("guard = \"always\"", "guard = \"always\"\nrecorders = [\"q\"]") + "\n" + RECORDER;
    assert!(Config::parse("t", &base).is_ok(), "{:?}", Config::parse("t", &base).err().map(|f| f.to_string()));
    for (from, to, key, reason) in [
        ("recorders = [\"q\"]", "recorders = [\"p\"]", "trunk[0].recorders[0]", "no recorder is named \"p\""),
        ("recorders = [\"q\"]", "", "recorder[0].name", "would record nothing"),
        ("recorders = [\"q\"]", "recorders = [\"q\", \"q\"]", "trunk[0].recorders[1]", "named twice"),
        ("name = \"q\"", "name = \"carrier\"", "recorder[0].name", "named \"carrier\" stands above already"),
        ("name = \"q\"", "name = \"sealed\"", "recorder[0].name", "recorder of sealed files"),
        ("kind = \"siprec\"", "kind = \"tape\"", "recorder[0].kind", "not known here"),
        ("kind = \"siprec\"\n", "", "recorder[0].kind", "missing"),
        ("listener = \"rec\"", "listener = \"rex\"", "recorder[0].listener", "no listener is named \"rex\""),
        ("192.0.2.40:5060", "192.0.2.40", "recorder[0].remotes[0]", "no port"),
        ("192.0.2.40:5060", "192.0.2.5:5070", "recorder[0].remotes", "a listener of ours"),
        ("192.0.2.40:5060", "[2001:db8::1]:5060", "recorder[0].remotes", "other IP version"),
        ("192.0.2.40:5060", "sip:srs.example", "recorder[0].sources", "needed because remotes has names"),
        ("kind =", "policy = \"maybe\"\nkind =", "recorder[0].policy", "not known here"),
        ("kind =", "dialect = \"klingon\"\nkind =", "recorder[0].dialect", "not known here"),
        ("kind =", "codec = \"opus\"\nkind =", "recorder[0].codec", "not known here"),
        ("kind =", "spill = true\nkind =", "recorder[0].spill", "[keys.current]"),
        ("kind =", "forward = true\nkind =", "recorder[0].forward", "[keys.current]"),
        ("kind =", "forward_sessions = 0\nkind =", "recorder[0].forward_sessions", "1"),
        ("kind =", "forward = false\nforward_sessions = 3\nkind =", "recorder[0].forward_sessions", "forward = false"),
        ("kind =", "srtp_suites = [\"AEAD_AES_128_GCM\"]\nkind =", "recorder[0].srtp_suites", "without encrypted"),
        ("kind =", "tls_ca = \"x.pem\"\nkind =", "recorder[0].tls_ca", "transport = \"tls\" only"),
        ("kind =", "probe_lost = 2\nkind =", "recorder[0].probe_lost", "with probe_s only"),
        ("kind =", "alive_s = 601\nkind =", "recorder[0].alive_s", "601"),
        ("kind =", "user = \"a b\"\nkind =", "recorder[0].user", "is no name"),
        (
            "kind =",
            "extension_namespace = \"urn:x:y\"\nkind =",
            "recorder[0].extension_namespace",
            "[[recorder.extension]] only",
        ),
        ("kind =", "gaurd = 1\nkind =", "recorder[0].gaurd", "no such key"),
        (
            "transport = \"tcp\"",
            "transport = \"tls\"\ncertificate = \"a\"\nkey = \"b\"",
            "recorder[0].tls_ca",
            "is missing",
        ),
    ] {
        let text = base.replacen(from, to, 1);
        assert_ne!(text, base, "{from}");
        let faults = Config::parse("t", &text).err().unwrap_or_else(|| panic!("{to:?} passes"));
        let fits =
            |fault: &tonewall::config::Fault| fault.key == key && fault.reason.contains(reason) && fault.line > 0;
        assert!(
            faults.iter().any(|fault| fits(fault) || (fault.key == key && fault.reason.contains(reason))),
            "{to:?}: {faults}"
        );
    }
    for (section, key, reason) in [
        ("header", "recorder[0].header[0].name", "\"name\""),
        ("extension", "recorder[0].extension[0].name", "no element name"),
    ] {
        let (name, value) = if section == "header" { ("Via", "x") } else { ("1x", "{call}") };
        let text = format!("{base}\n[[recorder.{section}]]\nname = \"{name}\"\nvalue = \"{value}\"\n");
        let faults = Config::parse("t", &text).err().unwrap_or_else(|| panic!("{name} passes"));
        assert!(faults.iter().any(|fault| fault.key == key), "{reason}: {faults}");
    }
    let text = format!("{base}\n[[recorder.header]]\nname = \"X-A\"\nvalue = \"{{digits}}\"\n");
    let faults = Config::parse("t", &text).expect_err("an unknown word");
    assert!(faults.iter().any(|fault| fault.key == "recorder[0].header[0].value" && fault.line > 0), "{faults}");
}
