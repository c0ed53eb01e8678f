//! Every kind of mistake in a configuration, and the faults it must get: all of them, each with line, key and reason.

use tonewall::config::Config;

use super::{REFERENCE, SMALL};

/// A change to a good file: what is replaced by what.
struct Slip {
    base: &'static str,
    from: &'static str,
    to: &'static str,
    /// `line: key: part of the reason`, one per fault, all of them; `+n` counts lines from the change.
    faults: &'static [&'static str],
}

const fn small(from: &'static str, to: &'static str, faults: &'static [&'static str]) -> Slip {
    Slip { base: SMALL, from, to, faults }
}

const fn reference(from: &'static str, to: &'static str, faults: &'static [&'static str]) -> Slip {
    Slip { base: REFERENCE, from, to, faults }
}

const RECORDER: &str = "[[listener]]\nname = \"rec\"\ntransport = \"tcp\"\naddress = \"192.0.2.5:5070\"\n[[recorder]]\nname = \"q\"\nkind = \"siprec\"\nlistener = \"rec\"\nremotes = [\"192.0.2.40:5060\"]\n";

const SLIPS: &[Slip] = &[
    // Names and keys.
    small("guard =", "gaurd =", &["20: trunk[0].gaurd: no such key; did you mean \"guard\"?"]),
    small(
        "[media]",
        "[medai]",
        &["0: media: the section is missing", "12: medai: no such key; did you mean \"media\"?"],
    ),
    small(
        "[[listener]]\nname = \"carrier-side\"",
        "[[listeners]]\nname = \"carrier-side\"",
        &[
            "4: listeners: no such key; did you mean \"listener\"?",
            "18: trunk[0].listener: no listener is named \"carrier-side\"",
        ],
    ),
    small(
        "listener = \"carrier-side\"",
        "listener = \"carier-side\"",
        &["18: trunk[0].listener: no listener is named \"carier-side\"; did you mean \"carrier-side\"?"],
    ),
    small("name = \"carrier-side\"", "name = \"carrier side\"", &["5: listener[0].name: is no name"]),
    small(
        "name = \"pbx-side\"",
        "name = \"carrier-side\"",
        &[
            "9: listener[1].name: a listener named \"carrier-side\" stands above already",
            "25: trunk[1].listener: no listener is named \"pbx-side\"",
        ],
    ),
    small(
        "name = \"pbx\"",
        "name = \"carrier\"",
        &[
            "23: trunk[1].name: a trunk named \"carrier\" stands above already",
            "30: route[0].to[0]: no trunk is named \"pbx\"",
            "33: route[1].from: no trunk is named \"pbx\"",
        ],
    ),
    small(
        "to = [\"pbx\"]",
        "to = [\"bpx\"]",
        &["30: route[0].to[0]: no trunk is named \"bpx\"; did you mean \"pbx\"?"],
    ),
    small("name = \"carrier\"\n", "", &["15: trunk[0].name: is missing; for instance name = \"carrier\""]),
    // Values of the wrong kind.
    small(
        "guard = \"always\"",
        "guard = \"allways\"",
        &["20: trunk[0].guard: \"allways\" is not known here; did you mean \"always\"?"],
    ),
    small(
        "guard = \"always\"",
        "guard = \"manual\"",
        &["20: trunk[0].guard: \"manual\" is not known here; known: \"off\", \"signal\", \"auto\", \"always\""],
    ),
    small(
        "guard = \"always\"",
        "auto_quiet_ms = 900",
        &["20: trunk[0].auto_quiet_ms: is read with guard = \"auto\" only"],
    ),
    small(
        "guard = \"always\"",
        "guard = \"auto\"\nauto_release_leading = 7",
        &["21: trunk[0].auto_release_leading: 7 is not from 0 to 6"],
    ),
    small(
        "guard = \"always\"",
        "guard = \"auto\"\nauto_quiet_ms = 5000",
        &["21: trunk[0].auto_quiet_ms: a number would wait less (4000 ms)"],
    ),
    small(
        "guard = \"always\"",
        "guard = \"auto\"\nauto_long_quiet_ms = 3000",
        &["21: trunk[0].auto_long_quiet_ms: what may be a card would wait less (3000 ms) than what is none (4000 ms)"],
    ),
    small(
        "guard = \"always\"",
        "guard = \"auto\"\nauto_payment_s = 0",
        &["21: trunk[0].auto_payment_s: 0 is not from 60 to 600"],
    ),
    small(
        "guard = \"always\"",
        "guard = true",
        &["20: trunk[0].guard: is true or false; a string in quotes is wanted"],
    ),
    small("side = \"carrier\"", "side = \"customer\"", &["17: trunk[0].side: \"customer\" is not known here"]),
    small(
        "remotes = [\"198.51.100.7:5060\"]",
        "remotes = \"198.51.100.7:5060\"",
        &["19: trunk[0].remotes: is a string; a list in brackets is wanted"],
    ),
    small("remotes = [\"198.51.100.7:5060\"]", "remotes = []", &["19: trunk[0].remotes: is empty"]),
    small(
        "remotes = [\"198.51.100.7:5060\"]",
        "remotes = [\"198.51.100.7\"]",
        &["19: trunk[0].remotes[0]: \"198.51.100.7\" has no port; write \"198.51.100.7:<port>\""],
    ),
    small(
        "remotes = [\"198.51.100.7:5060\"]",
        "remotes = [\n  \"198.51.100.7:5060\",\n  \"sbc.example.com:5060\",\n]",
        &["21: trunk[0].remotes[1]: a name to be looked up is written \"sip:<name>\""],
    ),
    small(
        "remotes = [\"198.51.100.7:5060\"]",
        "remotes = [\"[2001:db8::7]:5060\"]",
        &["19: trunk[0].remotes: is of the other IP version than its listener"],
    ),
    small(
        "remotes = [\"198.51.100.7:5060\"]",
        "remotes = [\"192.0.2.5:5062\"]",
        &["19: trunk[0].remotes: 192.0.2.5:5062 is a listener of ours; calls would go in circles"],
    ),
    small("address = \"192.0.2.5:5060\"", "address = \"192.0.2.5:0\"", &["6: listener[0].address: has port 0"]),
    small(
        "address = \"192.0.2.5:5060\"",
        "address = \"0.0.0.0:5060\"",
        &["4: listener[0].advertise: is missing, and needed because address is the unspecified one"],
    ),
    small(
        "address = \"192.0.2.5\"\n",
        "address = \"192.0.2.5:20000\"\n",
        &["13: media.address: has a port; only the address"],
    ),
    small(
        "address = \"192.0.2.5\"\n",
        "address = \"::\"\nadvertise = \"192.0.2.5\"\n",
        &["14: media.advertise: is of the other IP version than address"],
    ),
    small(
        "guard = \"always\"",
        "sources = [\"198.51.100.7/24\"]",
        &["20: trunk[0].sources[0]: did you mean \"198.51.100.0/24\" or \"198.51.100.7\"?"],
    ),
    small("guard = \"always\"", "media = [\"198.51.100.0/40\"]", &["20: trunk[0].media[0]: is no network"]),
    small(
        "guard = \"always\"",
        "codecs = [\"PCMU\", \"G729\"]",
        &["20: trunk[0].codecs[1]: \"G729\" is not known here"],
    ),
    small("guard = \"always\"", "codecs = [\"PCMA\", \"PCMA\"]", &["20: trunk[0].codecs: names a codec twice"]),
    small("guard = \"always\"", "srtp = \"on\"", &["20: trunk[0].srtp: \"on\" is not known here"]),
    small(
        "guard = \"always\"",
        "srtp = \"required\"\nsrtp_suites = [\"AES_CM_128_HMAC_SHA1_80\", \"AES_CM_128\"]",
        &["21: trunk[0].srtp_suites[1]: \"AES_CM_128\" is not known here"],
    ),
    small(
        "guard = \"always\"",
        "srtp = \"required\"\nsrtp_suites = []",
        &["21: trunk[0].srtp_suites: is empty; at least \"AES_CM_128_HMAC_SHA1_80\" is wanted"],
    ),
    small(
        "guard = \"always\"",
        "srtp = \"required\"\nsrtp_suites = [\"AEAD_AES_128_GCM\", \"AEAD_AES_128_GCM\"]",
        &["21: trunk[0].srtp_suites: names a cipher suite twice"],
    ),
    small(
        "guard = \"always\"",
        "srtp_suites = [\"AEAD_AES_128_GCM\"]",
        &["20: trunk[0].srtp_suites: means nothing without srtp"],
    ),
    small(
        "guard = \"always\"",
        "srtp = \"required\"\nsrtp_keying = \"dtls\"\nsrtp_suites = [\"AEAD_AES_128_GCM\"]",
        &["21: trunk[0].srtp_keying: leaves the choice of a suite to the handshake"],
    ),
    small("guard = \"always\"", "srtp_keying = \"dtls\"", &["20: trunk[0].srtp_keying: means nothing without srtp"]),
    small("guard = \"always\"", "rtcp_mux = 1", &["20: trunk[0].rtcp_mux: is a whole number"]),
    small("guard = \"always\"", "latch = \"yes\"", &["20: trunk[0].latch: is a string"]),
    small("guard = \"always\"", "dtmf = [\"rfc2833\"]", &["20: trunk[0].dtmf[0]: \"rfc2833\" is not known here"]),
    small("guard = \"always\"", "ptime_ms = 5", &["20: trunk[0].ptime_ms: 5 is not from 10 to 60"]),
    small("guard = \"always\"", "ptime_ms = 20.0", &["20: trunk[0].ptime_ms: is a number with a fraction"]),
    small("guard = \"always\"", "max_calls = -1", &["20: trunk[0].max_calls: -1 is not from 1"]),
    small(
        "guard = \"always\"",
        "pass_headers = [\"X-Ref\", \"Via\"]",
        &["20: trunk[0].pass_headers[1]: \"Via\" is written by Tonewall on each leg"],
    ),
    small("guard = \"always\"", "reliable = \"on\"", &["20: trunk[0].reliable: \"on\" is not known here"]),
    small("guard = \"always\"", "session_timer = true", &["20: trunk[0].session_timer: is true or false; a string"]),
    small("guard = \"always\"", "session_min_s = 60", &["20: trunk[0].session_min_s: 60 is not from 90 to 86400"]),
    small(
        "guard = \"always\"",
        "session_expires_s = 100\nsession_min_s = 200",
        &["21: trunk[0].session_min_s: the shortest interval taken (200 s) is longer than the one asked for (100 s)"],
    ),
    small(
        "guard = \"always\"",
        "session_timer = \"off\"\nsession_min_s = 200",
        &["21: trunk[0].session_min_s: is not read with session_timer = \"off\""],
    ),
    small("guard = \"always\"", "refer = \"yes\"", &["20: trunk[0].refer: \"yes\" is not known here"]),
    small("guard = \"always\"", "replaces = \"yes\"", &["20: trunk[0].replaces: is a string; true or false"]),
    small("guard = \"always\"", "redirect = \"yes\"", &["20: trunk[0].redirect: \"yes\" is not known here"]),
    small(
        "guard = \"always\"",
        "pass_info = [\"text/plain\", \"application/DTMF-relay\"]",
        &["20: trunk[0].pass_info[1]: \"application/DTMF-relay\" may carry keys or media"],
    ),
    small(
        "guard = \"always\"",
        "pass_message = [\"text\"]",
        &["20: trunk[0].pass_message[0]: \"text\" is no content type"],
    ),
    small(
        "guard = \"always\"",
        "[[trunk.header]]\ndo = \"set\"\nname = \"Via\"\nvalue = \"x\"",
        &["22: trunk[0].header[0].name: \"Via\" is written by Tonewall on each leg"],
    ),
    small(
        "guard = \"always\"",
        "[[trunk.header]]\ndo = \"set\"\nname = \"X-A\"",
        &["20: trunk[0].header[0].value: is missing"],
    ),
    small(
        "guard = \"always\"",
        "[[trunk.header]]\ndo = \"remove\"\nname = \"X-A\"\nvalue = \"x\"",
        &["23: trunk[0].header[0].value: is not read with do = \"remove\""],
    ),
    small(
        "guard = \"always\"",
        "[[trunk.header]]\ndo = \"copy\"\nname = \"X-A\"\nfrom = \"Authorization\"",
        &["23: trunk[0].header[0].from: \"Authorization\" is a secret of the caller's"],
    ),
    small(
        "guard = \"always\"",
        "[[trunk.header]]\ndo = \"rewrite\"\nname = \"X-A\"\nmatch = \"a(\"\nvalue = \"x\"",
        &["23: trunk[0].header[0].match: is no pattern: unclosed group"],
    ),
    small(
        "guard = \"always\"",
        "[[trunk.header]]\ndo = \"copy\"\nname = \"X-A\"\nfrom = \"X-B\"\nmatch = \"a\"",
        &["24: trunk[0].header[0].match: stands without value"],
    ),
    small(
        "from = \"carrier\"\n",
        "from = \"carrier\"\nmatch = \"0(?<n>.*)\"\nnumber = \"+49${m}\"\n",
        &["30: route[0].match: \"+49${m}\" names a capture that the pattern does not have: \"m\""],
    ),
    small("from = \"carrier\"\n", "from = \"carrier\"\nstrip = 99\n", &["30: route[0].strip: 99 is not from 0 to 32"]),
    small(
        "guard = \"always\"",
        "signal_header = \"X-Act\"",
        &["20: trunk[0].signal_header: only the PBX steers holds; the header belongs on a trunk with side = \"pbx\""],
    ),
    small("guard = \"always\"", "call_header = \"X Ref\"", &["20: trunk[0].call_header: is no header name"]),
    small("from = \"carrier\"\n", "from = \"carrier\"\nprefix = \"+1 800\"\n", &["30: route[0].prefix: is no prefix"]),
    // What does not fit together.
    small(
        "guard = \"always\"",
        "hold_default_s = 7200",
        &["20: trunk[0].hold_default_s: the default deadline (7200 s) is longer than hold_max_s (1800 s)"],
    ),
    small(
        "guard = \"always\"",
        "hold_max_s = 60",
        &["20: trunk[0].hold_max_s: the default deadline (300 s) is longer"],
    ),
    small(
        "guard = \"always\"",
        "recording = \"required\"",
        &[
            "20: trunk[0].recording: no key to seal them is named",
            "20: trunk[0].recording: storage.recordings (the directory) is missing",
        ],
    ),
    small("guard = \"always\"", "redaction_horizon_s = 61", &["20: trunk[0].redaction_horizon_s: "]),
    small(
        "guard = \"always\"",
        "redaction_horizon_s = 5",
        &["20: trunk[0].redaction_horizon_s: means nothing without recording = \"best-effort\" or \"required\""],
    ),
    small(
        "remotes = [\"192.0.2.20:5060\"]",
        "remotes = [\"192.0.2.20:5060\"]\nguard = \"always\"",
        &["27: trunk[1].guard: the guard stands on the carrier side"],
    ),
    small(
        "guard = \"always\"",
        "star_codes = { begin = \"*71\", end = \"*72\" }",
        &["20: trunk[0].star_codes: star codes are keyed by agents"],
    ),
    small(
        "side = \"pbx\"",
        "side = \"carrier\"",
        &[
            "15: trunk: no [[trunk]] has side = \"pbx\"",
            "30: route[0].to[0]: \"pbx\" is on the carrier side like the trunk calls come from",
            "34: route[1].to[0]: \"carrier\" is on the carrier side like the trunk calls come from",
        ],
    ),
    small(
        "listener = \"pbx-side\"\nremotes = [\"192.0.2.20:5060\"]",
        "listener = \"carrier-side\"\nremotes = [\"198.51.100.7:5070\"]",
        &["26: trunk[1].remotes: 198.51.100.7/32 is also a source of trunk \"carrier\" on the same listener"],
    ),
    small(
        "address = \"192.0.2.5:5062\"",
        "address = \"192.0.2.5:5060\"",
        &["10: listener[1].address: 192.0.2.5:5060 is taken by the listener \"carrier-side\" already"],
    ),
    small(
        "address = \"192.0.2.5:5062\"",
        "address = \"192.0.2.5:20062\"",
        &["10: listener[1].address: port 20062 lies within media.ports (20000 to 29999)"],
    ),
    small(
        "address = \"192.0.2.5\"\n",
        "address = \"192.0.2.5\"\nports = [20001, 29999]\n",
        &["14: media.ports: the first port, 20001, is odd"],
    ),
    small(
        "address = \"192.0.2.5\"\n",
        "address = \"192.0.2.5\"\nports = [20000, 30000]\n",
        &["14: media.ports: the last port, 30000, is even"],
    ),
    small(
        "address = \"192.0.2.5\"\n",
        "address = \"192.0.2.5\"\nports = [20000, 20001]\n",
        &["14: media.ports: no room for one call"],
    ),
    small(
        "address = \"192.0.2.5\"\n",
        "address = \"192.0.2.5\"\nports = [20000]\n",
        &["14: media.ports: takes two numbers"],
    ),
    small(
        "address = \"192.0.2.5\"\n",
        "address = \"192.0.2.5\"\nports = [80, 29999]\n",
        &["14: media.ports[0]: 80 is not from 1024"],
    ),
    small(
        "address = \"192.0.2.5\"\n",
        "address = \"192.0.2.5\"\nports = [20000, 20099]\n[node]\nmax_calls = 30\n",
        &["16: node.max_calls: media.ports 20000 to 20099 carry 25 calls (four ports each), not 30"],
    ),
    small(
        "guard = \"always\"",
        "guard = \"always\"\nunmaskable = \"pass\"",
        &["21: trunk[0].unmaskable: lets through what guard = \"auto\" or \"always\" could not mask"],
    ),
    small(
        "guard = \"always\"",
        "guard = \"always\"\nt38 = \"pass\"",
        &["21: trunk[0].t38: lets through what guard = \"auto\" or \"always\" could not mask"],
    ),
    small("guard = \"always\"", "t38 = \"drop\"", &["20: trunk[0].t38: \"drop\" is not known here"]),
    small("guard = \"always\"", "unmaskable = \"drop\"", &["20: trunk[0].unmaskable: \"drop\" is not known here"]),
    small("guard = \"always\"", "codecs = [\"G729\"]", &["20: trunk[0].codecs[0]: \"G729\" is not known here"]),
    small(
        "to = [\"pbx\"]",
        "to = [\"pbx\"]\n[[route]]\nfrom = \"carrier\"\nprefix = \"+1\"\nto = [\"pbx\"]",
        &["33: route[1].prefix: is never reached: an earlier route with prefix \"\" takes all its calls"],
    ),
    small("to = [\"pbx\"]", "to = [\"pbx\", \"pbx\"]", &["30: route[0].to[1]: \"pbx\" is named twice"]),
    small("to = [\"pbx\"]", "to = []", &["30: route[0].to: is empty"]),
    small(
        "[[route]]\nfrom = \"carrier\"\nto = [\"pbx\"]\n\n[[route]]\nfrom = \"pbx\"\nto = [\"carrier\"]\n",
        "",
        &["0: route: no [[route]] is there"],
    ),
    small(
        "[[trunk]]\nname = \"pbx\"",
        "[[trunk]]\nname = \"spare\"\nside = \"carrier\"\nlistener = \"carrier-side\"\nremotes = [\"203.0.113.9:5060\"]\n[[trunk]]\nname = \"pbx\"",
        &["23: trunk[1].name: no [[route]] is from or to \"spare\""],
    ),
    // Sections of the wrong shape.
    small("[media]", "[[media]]", &["12: media: there is only one; write [media] with single brackets"]),
    small(
        "[[route]]\nfrom = \"carrier\"\nto = [\"pbx\"]\n\n[[route]]\nfrom = \"pbx\"",
        "[route]\nfrom = \"pbx\"",
        &["28: route: there may be several; write [[route]] with double brackets"],
    ),
    // The API and the keys.
    reference(
        "sha256 = \"0000",
        "sha256 = \"000",
        &["+0: control.key[0].sha256: is 63 characters; 64 hexadecimal digits"],
    ),
    reference(
        "# key_env =",
        "key_env =",
        &["+0: control.key[0].key_env: sha256 and key_env are given; only one can hold"],
    ),
    reference("role = \"integration\"", "role = \"root\"", &["+0: control.key[0].role: \"root\" is not known here"]),
    reference(
        "[[control.key]]\nname = \"crm\" ",
        "[[control.key]]\nname = \"x\"\nrole = \"admin\"\nsha256 = \"0000000000000000000000000000000000000000000000000000000000000001\"\n[[control.key]]\nname = \"crm\" ",
        &["+4: control.key[1]: the same key text stands above already"],
    ),
    reference(
        "id = \"2026-10\"",
        "id = \"2026-11\"",
        &["+0: keys.old[0].id: a key with the id \"2026-11\" stands above already"],
    ),
    small(
        "guard = \"always\"",
        "recording = \"required\"\n[storage]\nrecordings = \"r\"\n[keys.curent]\nid = \"a\"\nfile = \"b\"",
        &[
            "20: trunk[0].recording: calls are to be recorded, but [keys.current] is missing",
            "23: keys.curent: no such key; did you mean \"current\"?",
        ],
    ),
    small(
        "guard = \"always\"",
        "[keys.current]\nid = \"a\"",
        &["+0: keys.current.file: is missing; give one of file, env, command, pkcs11"],
    ),
    reference(
        "# env = \"TONEWALL_KEK\" ",
        "env = \"X\" ",
        &["+0: keys.current.env: file and env are given; only one can hold"],
    ),
    reference("# timeout_s = 10 ", "timeout_s = 10 ", &["+0: keys.current.timeout_s: is not read with file"]),
    reference(
        "# pin_file = \"token.pin\" ",
        "pin_file = \"p\" ",
        &["+0: keys.current.pin_file: is not read with file"],
    ),
    reference(
        "# passphrase_file = \"kek.pass\"  # with",
        "passphrase_file = \"p\"\npassphrase_env = \"P\" # with",
        &["+1: keys.current.passphrase_env: passphrase_file and passphrase_env are given; only one can hold"],
    ),
    reference(
        "file = \"/etc/tonewall/kek-2026-11.hex\"",
        "command = []\n#",
        &["+0: keys.current.command: is empty; the program and its arguments"],
    ),
    reference(
        "file = \"/etc/tonewall/kek-2026-11.hex\"",
        "command = [\"kek\"]\nrefresh_s = 60\ncache_s = 10\n#",
        &["+2: keys.current.cache_s: 10 s is shorter than refresh_s, 60 s"],
    ),
    reference(
        "file = \"/etc/tonewall/kek-2026-11.hex\"",
        "env = \"MY KEK\"\n#",
        &["+0: keys.current.env: \"MY KEK\" is no name of an environment variable"],
    ),
    small(
        "guard = \"always\"",
        "[keys.current]\nid = \"a\"\npkcs11 = \"hsm.so\"\ntoken = \"\"",
        &[
            "+0: keys.current.label: is missing; for instance label = \"kek-2026-01\"",
            "+0: keys.current.pin_file: is missing; give one of pin_file, pin_env, pin_command",
            "+3: keys.current.token: has 0 bytes; 1 to 32 are wanted",
        ],
    ),
    // Where recordings are and how long.
    reference("stall_s = 10", "stall_s = 0", &["+0: storage.stall_s: 0 is not from 1 to 600"]),
    reference("least_free_mb = 2000", "least_free_mb = \"1 GB\"", &["+0: storage.least_free_mb: is a string"]),
    reference(
        "# [[storage.retention]]",
        "[[storage.retention]]\ntrunk = \"carier\"\nlabel = \"team\"\n#",
        &[
            "+0: storage.retention[0].keep_days: is missing; for instance keep_days = 90",
            "+1: storage.retention[0].trunk: no trunk is named \"carier\"; did you mean \"carrier\"?",
            "+2: storage.retention[0].label: \"team\" is no label, such as \"team=north\"",
        ],
    ),
    reference(
        "# [storage.s3]",
        "[storage.s3]\nbucket = \"B\"\nendpoint = \"http://s3.example.com\"\nprefix = \"/a\"\nsecret_key_file = \"a\"\nsecret_key_env = \"A\"\n#",
        &[
            "+0: storage.s3.access_key_file: is missing; give one of access_key_file, access_key_env",
            "+1: storage.s3.bucket: \"B\" is no bucket",
            "+2: storage.s3.endpoint: \"http://s3.example.com\" is not encrypted",
            "+3: storage.s3.prefix: \"/a\" is no beginning of keys",
            "+5: storage.s3.secret_key_env: secret_key_file and secret_key_env are given; only one can hold",
        ],
    ),
    reference("end = \"*72\"", "end = \"*7\"", &["+0: trunk[1].star_codes.end: begins like the other code"]),
    reference("begin = \"*71\"", "begin = \"71\"", &["+0: trunk[1].star_codes.begin: is no star code"]),
    // Canary.
    reference(
        "card = \"4242424242424242\"",
        "card = \"4242424242424241\"",
        &["+0: canary.card: is none of the cards published for tests"],
    ),
    reference("forms = [\"tone\", \"event\", \"info\"]", "forms = []", &["+0: canary.forms: is empty"]),
    reference("every_s = 3600 ", "every_s = 30 ", &["+0: canary.every_s: "]),
    reference("guards = [\"held\", \"auto\"]", "guards = [\"on\"]", &["+0: canary.guards[0]: "]),
    // Targets.
    small(
        "remotes = [\"198.51.100.7:5060\"]",
        "remotes = [\"sip:carrier.example\"]",
        &["15: trunk[0].sources: is missing, and needed because remotes has names"],
    ),
    small(
        "remotes = [\"198.51.100.7:5060\"]",
        "remotes = [\"sip:192.0.2.1\", \"sip:-.\", \"192.0.2.9:5060;weight=x\", \"192.0.2.9:5060;cost=1\"]",
        &[
            "+0: trunk[0].remotes[0]: has no port",
            "+0: trunk[0].remotes[1]: is no host name",
            "+0: trunk[0].remotes[2]: \"weight=x\" is not known here",
            "+0: trunk[0].remotes[3]: \"cost=1\" is not known here",
        ],
    ),
    reference("probe_s = 30", "probe_s = 9999", &["+0: trunk[0].probe_s: 9999 is not from 0 to 3600"]),
    reference(
        "probe_s = 30                    # how often",
        "# how often",
        &["+1: trunk[0].probe_lost: is read with probe_s only", "+2: trunk[0].probe_good: is read with probe_s only"],
    ),
    reference("failover_ms = 4000", "failover_ms = 40", &["+0: trunk[0].failover_ms: 40 is not from 500 to 32000"]),
    reference(
        "nameservers = [\"192.0.2.53:53\"]",
        "nameservers = [\"192.0.2.53\"]",
        &["+0: dns.nameservers[0]: has no port"],
    ),
    reference(
        "max_messages_per_s = 50000",
        "max_messages_per_s = 0",
        &["+0: node.max_messages_per_s: 0 is not from 1"],
    ),
    // Passwords and registration.
    small(
        "guard = \"always\"",
        "[trunk.login]\nuser = \"\"\nsecret = \"x\"\n[trunk.register]\naddress = \"4711\"",
        &[
            "+0: trunk[0].login.realm: is missing",
            "+0: trunk[0].login.secret_file: is missing; give one of secret_file, secret_env",
            "+1: trunk[0].login.user: is not 1 to 128 printable characters",
            "+2: trunk[0].login.secret: no such key",
            "+4: trunk[0].register.address: is no address of record",
        ],
    ),
    small(
        "guard = \"always\"",
        "[trunk.challenge]\nuser = \"u\"\nrealm = \"r\"\nalgorithms = [\"MD5\", \"MD5\"]",
        &[
            "+0: trunk[0].challenge.secret_file: is missing; give one of secret_file, secret_env",
            "+3: trunk[0].challenge.algorithms: must name SHA-256, MD5 or both, each once",
        ],
    ),
    small(
        "guard = \"always\"",
        "[trunk.challenge]\nuser = \"u\"\nrealm = \"r\"\nalgorithms = [\"SHA-1\"]",
        &[
            "+0: trunk[0].challenge.secret_file: is missing",
            "+3: trunk[0].challenge.algorithms[0]: \"SHA-1\" is not known here",
        ],
    ),
    // TLS.
    small(
        "address = \"192.0.2.5:5060\"",
        "address = \"192.0.2.5:5060\"\ntransport = \"tls\"",
        &[
            "4: listener[0].certificate: is missing",
            "4: listener[0].key: is missing",
            "16: trunk[0].tls_ca: is missing, and needed because the listener is a TLS one",
        ],
    ),
    small(
        "address = \"192.0.2.5:5060\"",
        "address = \"192.0.2.5:5060\"\ntransport = \"tls\"\ncertificate = [\"a\", \"b\"]\nkey = \"\"",
        &["+3: listener[0].key: is empty; a file is wanted", "18: trunk[0].tls_ca: is missing"],
    ),
    reference(
        "transport = \"udp\"               # \"udp\", \"tcp\" or \"tls\"",
        "transport = \"tls\"\ncertificate = [\"a\", \"b\"]\nkey = \"k\" #",
        &[
            "+2: listener[0].key: 2 certificates and 1 keys",
            "24: listener[0].tcp: is read with transport = \"udp\" only",
            "49: trunk[0].tls_ca: is missing",
        ],
    ),
    reference(
        "# key = \"sip.key\"",
        "key = \"sip.key\" #",
        &["+0: listener[0].key: is read with transport = \"tls\" only"],
    ),
    reference("# sips = false", "sips = true #", &["+0: listener[0].sips: is read with transport = \"tls\" only"]),
    reference("# sips = false", "tcp = 1 #", &["+0: : not TOML: duplicate key"]),
    small(
        "address = \"192.0.2.5:5060\"",
        "address = \"192.0.2.5:5060\"\ntransport = \"tcp\"\ntcp = true",
        &["+2: listener[0].tcp: is read with transport = \"udp\" only"],
    ),
    reference(
        "# media_address = \"192.0.2.5\"",
        "media_address = \"0.0.0.0\" #",
        &["17: listener[0].media_advertise: is missing, and needed because media_address is the unspecified one"],
    ),
    reference(
        "# media_advertise = \"192.0.2.5\"",
        "media_advertise = \"192.0.2.6\" #",
        &["+0: listener[0].media_advertise: is read with media_address only"],
    ),
    reference("keepalive_s = 30", "keepalive_s = 9999", &["+0: listener[0].keepalive_s: 9999 is not from 0 to 3600"]),
    reference(
        "# tls_ca = \"carrier-ca.pem\"",
        "tls_ca = \"x\" #",
        &["+0: trunk[0].tls_ca: is read on a listener with transport = \"tls\" only"],
    ),
    reference("level = \"info\"", "level = \"verbose\"", &["+0: log.level: \"verbose\" is not known here"]),
    reference(
        "address = \"127.0.0.1:8080\"",
        "address = \"localhost:8080\"",
        &["+0: control.address: host names are not looked up"],
    ),
    // The audit log.
    reference("key = \"/etc/tonewall/audit.key\"", "key = \"\"", &["+0: audit.key: is empty; a file is wanted"]),
    reference(
        "sync = \"always\"",
        "sync = \"never\"",
        &["+0: audit.sync: \"never\" is not known here; known: \"always\""],
    ),
    reference("checkpoint_s = 10", "checkpoint_s = 0", &["+0: audit.checkpoint_s: 0 is not from 1 to 3600"]),
    reference("file_mb = 16", "file_md = 16", &["+0: audit.file_md: no such key; did you mean \"file_mb\"?"]),
    reference(
        "url = \"https://witness.example",
        "url = \"http://witness.example",
        &["+0: audit.ship[0].url: \"http://"],
    ),
    reference(
        "url = \"https://witness.example",
        "directory = \"/mnt/witness\"\nurl = \"https://witness.example",
        &["+1: audit.ship[0].url: directory and url are given; only one can hold"],
    ),
    reference(
        "url = \"https://witness.example/checkpoints\"",
        "bucket = \"Witness\"\nsecret_env = \"A\"\nendpoint = \"http://s3.example.com\"\naccess_key_env = \"A\"\nsecret_key_env = \"B\"",
        &[
            "+0: audit.ship[0].bucket: \"Witness\" is no bucket",
            "+1: audit.ship[0].secret_env: is of no use with bucket",
            "+2: audit.ship[0].endpoint: \"http://s3.example.com\" is not encrypted",
            "+3: audit.ship[0].access_key_env: cannot be looked up here",
            "+4: audit.ship[0].secret_key_env: cannot be looked up here",
        ],
    ),
    reference(
        "url = \"https://witness.example/checkpoints\"",
        "directory = \"/mnt/witness\"\nregion = \"a\"",
        &["+1: audit.ship[0].region: is of no use with directory"],
    ),
    reference(
        "# directory = \"/mnt/witness\"",
        "bucket = \"witness\"\n# directory = \"/mnt/witness\"",
        &["+0: audit.ship[0].bucket: url and bucket are given; only one can hold"],
    ),
    // Labels of a trunk.
    small("guard = \"always\"", "labels = \"a=b\"", &["20: trunk[0].labels: is a string"]),
    small(
        "guard = \"always\"",
        "labels = [\"team\", \"a b=c\", \"spill=x\", \"card=4242424242424242\", \"empty=\"]",
        &[
            "20: trunk[0].labels[0]: \"team\" is no label, such as \"team=north\"",
            "20: trunk[0].labels[1]: \"a b\" is no label's name",
            "20: trunk[0].labels[2]: \"spill\" is a label that the node gives by itself",
            "20: trunk[0].labels[3]: the value of \"card\" is 1 to 256 characters",
            "20: trunk[0].labels[4]: the value of \"empty\" is 1 to 256 characters",
        ],
    ),
    small("guard = \"always\"", "labels = [\"a=b\", \"a=c\"]", &["20: trunk[0].labels: sets \"a\" twice"]),
    // What is not TOML: sure faults above it are told too.
    small("guard = \"always\"", "guard = always", &["20: : not TOML: string values must be quoted"]),
    small("name = \"pbx\"", "name = \"pbx", &["23: : not TOML: invalid basic string"]),
    small("guard = \"always\"", "name = \"again\"", &["20: : not TOML: duplicate key"]),
    small(
        "guard = \"always\"\n\n[[trunk]]",
        "gard = \"always\"\n\n[[trunk]",
        &["20: trunk[0].gard: no such key; did you mean \"guard\"?", "22: : not TOML: unclosed array table"],
    ),
    // Several at once.
    small(
        "side = \"carrier\"\nlistener = \"carrier-side\"\nremotes = [\"198.51.100.7:5060\"]\nguard = \"always\"",
        "sied = \"carrier\"\nlistener = \"carrier\"\nremotes = [\"198.51.100.7\"]\nguard = 1\nmask = \"beep\"",
        &[
            "15: trunk[0].side: is missing",
            "17: trunk[0].sied: no such key; did you mean \"side\"?",
            "18: trunk[0].listener: no listener is named \"carrier\"",
            "19: trunk[0].remotes[0]: has no port",
            "20: trunk[0].guard: is a whole number; a string in quotes is wanted",
            "21: trunk[0].mask: \"beep\" is not known here; known: \"silence\"",
        ],
    ),
];

#[test]
fn each_slip_gets_exactly_its_faults() {
    assert!(SLIPS.len() >= 40, "{} slips", SLIPS.len());
    let mut wrong = Vec::new();
    for (index, slip) in SLIPS.iter().enumerate() {
        assert!(slip.base.contains(slip.from), "slip {index}: {:?} is not in the file", slip.from);
        let changed = slip.base.split(slip.from).next().map_or(0, |before| before.matches('\n').count() + 1);
        let text = slip.base.replacen(slip.from, slip.to, 1);
        let found: Vec<String> = match Config::parse("t", &text) {
            Ok(_) => Vec::new(),
            Err(faults) => {
                faults.iter().map(|fault| format!("{}: {}: {}", fault.line, fault.key, fault.reason)).collect()
            }
        };
        let fits = found.len() == slip.faults.len()
            && slip.faults.iter().zip(&found).all(|(wanted, found)| {
                let mut wanted = wanted.splitn(3, ": ");
                let (line, key, reason) = (wanted.next().unwrap_or(""), wanted.next(), wanted.next());
                let line = match line.strip_prefix('+') {
                    Some(after) => changed + after.parse::<usize>().expect("a number"),
                    None => line.parse().expect("a number"),
                };
                found.starts_with(&format!("{line}: {}: ", key.unwrap_or(""))) && found.contains(reason.unwrap_or("\0"))
            });
        if !fits {
            wrong.push(format!(
                "slip {index}: {:?} -> {:?}\n  wanted {:#?}\n  found {found:#?}",
                slip.from, slip.to, slip.faults
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

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
