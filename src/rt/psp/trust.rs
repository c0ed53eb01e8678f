//! TLS of connectors: whom a provider's certificate is checked against, and what we show.

use std::sync::Arc;

use rustls::ClientConfig;

use crate::config::{Config, Connector};
use crate::rt::client::trust;
use crate::rt::sip::tls::FileFault;

/// Looks at every file that the connectors name.
///
/// # Errors
/// Each file that cannot be used.
pub fn check(config: &Config) -> Result<(), Vec<FileFault>> {
    let faults: Vec<FileFault> = config
        .connectors
        .iter()
        .enumerate()
        .filter(|(_, connector)| !connector.sandbox)
        .filter_map(|(at, connector)| client(at, connector).err())
        .collect();
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}

/// What connections of the connector at place `at` start from.
pub(super) fn client(at: usize, connector: &Connector) -> Result<Arc<ClientConfig>, FileFault> {
    let shown = connector.certificate.as_ref().map(|files| (files.chain.as_path(), files.key.as_path()));
    let here = connector.url.as_deref().is_some_and(|url| url.starts_with("http://"));
    trust::client(connector.ca.as_deref(), shown, !here)
        .map_err(|(key, reason)| FileFault { key: format!("connector[{at}].{key}"), reason })
}
