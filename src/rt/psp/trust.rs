//! TLS of connectors: whom a provider's certificate is checked against, and what we show. Read from files once, at start;
//! `tonewall check` reads them too.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::config::{Config, Connector};
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
    let fault = |key: &str, reason: String| FileFault { key: format!("connector[{at}].{key}"), reason };
    let mut roots = RootCertStore::empty();
    match &connector.ca {
        Some(file) => {
            for certificate in certificates(file).map_err(|reason| fault("ca", reason))? {
                let added = roots.add(certificate);
                added.map_err(|error| fault("ca", format!("{}: {error}", file.display())))?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            let here = connector.url.as_deref().is_some_and(|url| url.starts_with("http://"));
            if roots.is_empty() && !here {
                let reason = "is not given, and the system has no certificate authorities";
                return Err(fault("ca", reason.to_owned()));
            }
        }
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| fault("ca", error.to_string()))?
        .with_root_certificates(roots);
    let Some(files) = &connector.certificate else { return Ok(Arc::new(builder.with_no_client_auth())) };
    let chain = certificates(&files.chain).map_err(|reason| fault("certificate", reason))?;
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(|error| fault("key", format!("{}: {}", files.key.display(), plain(&error))))?;
    let config = builder.with_client_auth_cert(chain, key);
    config.map(Arc::new).map_err(|error| fault("certificate", format!("{}: {error}", files.chain.display())))
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(format!("{}: holds no certificate (PEM is wanted)", file.display())),
        Err(error) => Err(format!("{}: {}", file.display(), plain(&error))),
    }
}

/// The fault without what the file holds.
fn plain(error: &rustls::pki_types::pem::Error) -> String {
    match error {
        rustls::pki_types::pem::Error::Io(error) => format!("cannot be read: {error}"),
        rustls::pki_types::pem::Error::NoItemsFound => "holds nothing of that kind (PEM is wanted)".to_owned(),
        _ => "is no PEM file".to_owned(),
    }
}
