//! Slips in sections of their own: the API, keys, recordings, the canary, targets, passwords, TLS, the audit log; and in what is no TOML.

use super::{Slip, reference, small};

pub const SLIPS: &[Slip] = &[
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
