//! Whom a connection to somebody outside trusts, and what it shows: read from files once, at start; `tonewall check` reads
//! them too.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

/// A fault: the key (`ca`, `certificate`, `key`) and why.
pub(in crate::rt) type Fault = (&'static str, String);

/// What connections start from: the authorities of `ca` or of the system, and a certificate to show with its key.
/// `encrypted`: a system without authorities is a fault.
pub(in crate::rt) fn client(
    ca: Option<&Path>,
    shown: Option<(&Path, &Path)>,
    encrypted: bool,
) -> Result<Arc<ClientConfig>, Fault> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(file) => {
            for certificate in certificates(file).map_err(|reason| ("ca", reason))? {
                let added = roots.add(certificate);
                added.map_err(|error| ("ca", format!("{}: {error}", file.display())))?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() && encrypted {
                return Err(("ca", "is not given, and the system has no certificate authorities".to_owned()));
            }
        }
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| ("ca", error.to_string()))?
        .with_root_certificates(roots);
    let Some((chain, key)) = shown else { return Ok(Arc::new(builder.with_no_client_auth())) };
    let certificates = certificates(chain).map_err(|reason| ("certificate", reason))?;
    let key =
        PrivateKeyDer::from_pem_file(key).map_err(|error| ("key", format!("{}: {}", key.display(), plain(&error))))?;
    let config = builder.with_client_auth_cert(certificates, key);
    config.map(Arc::new).map_err(|error| ("certificate", format!("{}: {error}", chain.display())))
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
