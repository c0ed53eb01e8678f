//! kamailio as a carrier's proxy: takes calls from SIPp by UDP, records the route, hands them to the node by the
//! transport that is tried.

use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A kamailio that ends with its handle.
pub struct Kamailio {
    child: Child,
    dir: tempfile::TempDir,
}

impl Kamailio {
    /// Takes calls at `front`, is `face` (of `transport`) toward the node at `node`. `certificates`: a directory with
    /// `kamailio.pem`, `kamailio.key` and `ca.pem`.
    pub fn start(
        front: SocketAddr,
        (transport, face): (&str, SocketAddr),
        node: SocketAddr,
        certificates: Option<&Path>,
    ) -> Kamailio {
        let dir = tempfile::tempdir().expect("a directory");
        let mut tls = String::new();
        if let Some(at) = certificates {
            let at = at.display();
            tls = format!(
                "loadmodule \"tls.so\"\n\
                 modparam(\"tls\", \"tls_method\", \"TLSv1.2+\")\nmodparam(\"tls\", \"certificate\", \"{at}/kamailio.pem\")\n\
                 modparam(\"tls\", \"private_key\", \"{at}/kamailio.key\")\nmodparam(\"tls\", \"ca_list\", \"{at}/ca.pem\")\n\
                 modparam(\"tls\", \"verify_certificate\", 1)\nmodparam(\"tls\", \"require_certificate\", 1)\n"
            );
        }
        let enable = if certificates.is_some() { "enable_tls=yes\n" } else { "" };
        let second =
            if (transport, face) == ("udp", front) { String::new() } else { format!("listen={transport}:{face}\n") };
        let text = format!(
            r#"debug=1
log_stderror=yes
fork=yes
children=1
tcp_children=1
auto_aliases=no
dns=no
rev_dns=no
{enable}listen=udp:{front}
{second}loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "rr.so"
loadmodule "pv.so"
loadmodule "maxfwd.so"
loadmodule "siputils.so"
loadmodule "textops.so"
{tls}
request_route {{
    if (!mf_process_maxfwd_header("10")) {{ sl_send_reply("483", "Too Many Hops"); exit; }}
    if (is_method("CANCEL")) {{ if (t_check_trans()) {{ t_relay(); }} exit; }}
    if (has_totag()) {{
        if (loose_route()) {{ t_relay(); exit; }}
        if (is_method("ACK") && t_check_trans()) {{ t_relay(); }}
        exit;
    }}
    if (is_method("OPTIONS")) {{ sl_send_reply("200", "OK"); exit; }}
    t_check_trans();
    record_route();
    $du = "sip:{node};transport={transport}";
    if (!t_relay()) {{ sl_reply_error(); }}
    exit;
}}
"#
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
        while UdpSocket::bind(front).is_ok() {
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
