//! kamailio as a carrier's proxy: between SIPp and the node, whoever calls; it may also ask callers for a password, take
//! registrations, and send a call to two places at once.

use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A kamailio that ends with its handle.
pub struct Kamailio {
    child: Child,
    dir: tempfile::TempDir,
}

/// What a kamailio does with requests that begin something.
#[derive(Default)]
pub struct Task<'a> {
    /// What it loads, and sets, beside what every proxy needs.
    pub modules: &'a str,
    /// The end of its `request_route`.
    pub route: &'a str,
    /// Shows a certificate and wants one: a directory with `kamailio.pem`, `kamailio.key` and `ca.pem`.
    pub certificates: Option<&'a Path>,
}

const MODULES: &str = r#"
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "rr.so"
loadmodule "pv.so"
loadmodule "maxfwd.so"
loadmodule "siputils.so"
loadmodule "textops.so"
"#;

const ROUTE: &str = r#"
    if (!mf_process_maxfwd_header("10")) { sl_send_reply("483", "Too Many Hops"); exit; }
    if (is_method("CANCEL")) { if (t_check_trans()) { t_relay(); } exit; }
    if (has_totag()) {
        if (loose_route()) { t_relay(); exit; }
        if (is_method("ACK") && t_check_trans()) { t_relay(); }
        exit;
    }
    if (is_method("OPTIONS")) { sl_send_reply("200", "OK"); exit; }
    t_check_trans();
"#;

/// Hands what comes to `next` by `transport`, and stays on the path.
pub fn hand_on(transport: &str, next: SocketAddr) -> String {
    format!(
        "    record_route();\n    $du = \"sip:{next};transport={transport}\";\n    if (!t_relay()) {{ sl_reply_error(); }}\n    exit;\n"
    )
}

impl Kamailio {
    /// Listens at each of these (transport and address), the first of them by UDP.
    pub fn start(listens: &[(&str, SocketAddr)], task: &Task<'_>) -> Kamailio {
        let dir = tempfile::tempdir().expect("a directory");
        let mut tls = String::new();
        if let Some(at) = task.certificates {
            let at = at.display();
            tls = format!(
                "loadmodule \"tls.so\"\n\
                 modparam(\"tls\", \"tls_method\", \"TLSv1.2+\")\nmodparam(\"tls\", \"certificate\", \"{at}/kamailio.pem\")\n\
                 modparam(\"tls\", \"private_key\", \"{at}/kamailio.key\")\nmodparam(\"tls\", \"ca_list\", \"{at}/ca.pem\")\n\
                 modparam(\"tls\", \"verify_certificate\", 1)\nmodparam(\"tls\", \"require_certificate\", 1)\n"
            );
        }
        let enable = if task.certificates.is_some() { "enable_tls=yes\n" } else { "" };
        let listen: String = listens.iter().map(|(transport, at)| format!("listen={transport}:{at}\n")).collect();
        let (modules, route) = (task.modules, task.route);
        let text = format!(
            "debug=1\nlog_stderror=yes\nfork=yes\nchildren=1\ntcp_children=1\nauto_aliases=no\ndns=no\nrev_dns=no\n\
             {enable}{listen}{MODULES}{modules}{tls}\nrequest_route {{{ROUTE}{route}}}\n"
        );
        let file = dir.path().join("kamailio.cfg");
        std::fs::write(&file, text).expect("the configuration");
        let log = std::fs::File::create(dir.path().join("log")).expect("the log");
        let child = Command::new("kamailio")
            .args(["-DD", "-E", "-m", "64", "-M", "16", "-f"])
            .arg(&file)
            .arg("-Y")
            .arg(dir.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("the log"))
            .stderr(log)
            .spawn()
            .expect("kamailio starts");
        let kamailio = Kamailio { child, dir };
        let until = Instant::now() + Duration::from_secs(20);
        while UdpSocket::bind(listens[0].1).is_ok() {
            assert!(Instant::now() < until, "kamailio does not start: {}", kamailio.log());
            std::thread::sleep(Duration::from_millis(50));
        }
        std::thread::sleep(Duration::from_millis(300));
        kamailio
    }

    /// What it has printed.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Kamailio {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("kamailio's last words:\n{}", self.log());
        }
        // Its main process ends its children; killed outright it could not.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let until = Instant::now() + Duration::from_secs(5);
        while Instant::now() < until {
            if let Ok(Some(_)) = self.child.try_wait() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
