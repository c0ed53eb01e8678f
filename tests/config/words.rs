//! Words nobody knows and values of the wrong kind.

use super::{Slip, small};

pub const SLIPS: &[Slip] = &[
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
];
