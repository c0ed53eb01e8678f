//! A node inside the test, from TOML text: what the text says of `carrier-side` and `pbx-side` is bound to free ports.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use tonewall::capture::Discard;
use tonewall::config::Config;
use tonewall::record::keys::KeyRing;
use tonewall::rt::keys::Keys;
use tonewall::rt::node::{Node, Options};

use crate::common::media_ports;

/// How long anything that should happen at once may take.
pub const SOON: Duration = Duration::from_secs(10);

/// A free UDP and TCP port nobody listens on.
pub fn nowhere() -> SocketAddr {
    crate::common::free_address()
}

/// What every test site has besides its listeners, trunks and routes.
pub fn common(ip: &str) -> String {
    let (first, last) = media_ports(40);
    format!("[media]\naddress = \"{ip}\"\nports = [{first}, {last}]\nworkers = 1\n")
}

/// A listener on a port to be given.
pub fn listener(name: &str, more: &str) -> String {
    listener_at(name, "127.0.0.1", more)
}

pub fn listener_at(name: &str, ip: &str, more: &str) -> String {
    static NEXT: std::sync::atomic::AtomicU16 = std::sync::atomic::AtomicU16::new(1);
    // Replaced by a free port before the node binds it.
    let port = NEXT.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    format!("[[listener]]\nname = \"{name}\"\naddress = \"{ip}:{port}\"\n{more}\n")
}

/// A trunk.
pub fn trunk(name: &str, side: &str, listener: &str, more: &str) -> String {
    format!("[[trunk]]\nname = \"{name}\"\nside = \"{side}\"\nlistener = \"{listener}\"\n{more}\n")
}

/// A route.
pub fn route(from: &str, to: &str) -> String {
    format!("[[route]]\nfrom = \"{from}\"\nto = [\"{to}\"]\n")
}

/// The configuration of `text`, its files in `dir`, its listeners on ports the kernel will give.
pub fn config(dir: &Path, text: &str) -> Config {
    let file = dir.join("tonewall.toml");
    std::fs::write(&file, text).expect("the configuration");
    let mut config = Config::load(&file).unwrap_or_else(|faults| panic!("{faults}"));
    for listener in &mut config.listeners {
        listener.address.set_port(0);
        listener.advertise.set_port(0);
    }
    config
}

/// Starts it.
pub async fn start(dir: &Path, text: &str) -> Node {
    start_config(config(dir, text)).await
}

pub async fn start_config(config: Config) -> Node {
    let keys = Keys::fixed(KeyRing::new(None, Vec::new()).expect("no keys"));
    let options = Options { config, keys, recipient: Box::new(Discard), demo: None };
    Node::start(options).await.unwrap_or_else(|error| panic!("{error}"))
}

/// Waits until `condition` holds.
pub async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + SOON;
    while !condition() {
        assert!(Instant::now() < end, "{what} did not happen");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
