//! Values that do not fit together.

use super::{Slip, small};

pub const SLIPS: &[Slip] = &[
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
];
