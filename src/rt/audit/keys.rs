//! The key that signs checkpoints: its file, which only its owner may read, and how one is made.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rand::TryRng;
use zeroize::Zeroizing;

use crate::audit::note::{Signer, Verifier};

/// Reads a signing key; refuses a file that others may read.
///
/// # Errors
/// In words, without the text.
pub fn load(file: &Path) -> Result<Signer, String> {
    let told = |error: io::Error| format!("{} cannot be read: {error}", file.display());
    let mode = fs::metadata(file).map_err(told)?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(format!("{} may be read by others (mode {mode:04o}); `chmod 0400` it", file.display()));
    }
    let text = Zeroizing::new(fs::read_to_string(file).map_err(told)?);
    Signer::parse(&text).map_err(|error| format!("{} {error}", file.display()))
}

/// Reads the public half from its own file, or from that of the signing key.
///
/// # Errors
/// In words.
pub fn load_public(file: &Path) -> Result<Verifier, String> {
    let told = |error: io::Error| format!("{} cannot be read: {error}", file.display());
    let text = Zeroizing::new(fs::read_to_string(file).map_err(told)?);
    if text.starts_with("PRIVATE+KEY+") {
        return load(file).map(|signer| signer.verifier());
    }
    Verifier::parse(&text).map_err(|error| format!("{} {error}", file.display()))
}

/// Makes a signing key in `file` (mode 0400) and its public half beside it (`.pub`, mode 0444). Neither may be there.
///
/// # Errors
/// In words.
pub fn make(file: &Path, name: &str) -> Result<Verifier, String> {
    let mut seed = Zeroizing::new([0u8; 32]);
    rand::rngs::SysRng.try_fill_bytes(&mut *seed).map_err(|error| error.to_string())?;
    let text = Signer::text(name, &seed).map_err(|error| error.to_string())?;
    let public = Signer::parse(&text).map_err(|error| error.to_string())?.verifier();
    let mut beside = file.as_os_str().to_owned();
    beside.push(".pub");
    for (path, mode, text) in
        [(file, 0o400, text.as_str()), (Path::new(&beside), 0o444, format!("{public}\n").as_str())]
    {
        let write = || -> io::Result<()> {
            let mut out = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
            out.write_all(text.as_bytes())?;
            out.sync_all()
        };
        write().map_err(|error| format!("{} cannot be made: {error}", path.display()))?;
    }
    Ok(public)
}
