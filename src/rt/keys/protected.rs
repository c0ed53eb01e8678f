//! A key file that a passphrase protects: who copies the disk has the file and not the key. Argon2id makes a key of the
//! passphrase, AES-256-GCM keeps the key-encryption key under it.
//!
//! ```text
//!   tonewall-key 1
//!   argon2id 65536 3 1 <salt>          memory in KiB, passes, lanes; 16 bytes
//!   aes-256-gcm <nonce> <key and tag>  12 and 48 bytes; the first two lines are authenticated with it
//! ```

use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::{AeadInOut, Aes256Gcm, KeyInit};
use argon2::{Algorithm, Argon2, Params, Version};
use rand::TryRng;
use zeroize::Zeroizing;

const FIRST_LINE: &str = "tonewall-key 1";
/// 64 MiB, three passes, one lane.
const COST: (u32, u32, u32) = (64 * 1024, 3, 1);
/// A file that asks for more is not one of ours: 1 GiB, 16 passes, 16 lanes.
const MOST: (u32, u32, u32) = (1 << 20, 16, 16);

/// Whether a text is a protected key, and not 64 digits.
pub fn is_protected(text: &str) -> bool {
    text.starts_with("tonewall-key ")
}

/// Protects `key` with `passphrase`.
///
/// # Errors
/// When the operating system gives no random bytes.
pub fn protect(key: &[u8; 32], passphrase: &str) -> Result<String, String> {
    let (mut salt, mut nonce) = ([0u8; 16], [0u8; 12]);
    let fill = |bytes: &mut [u8]| rand::rngs::SysRng.try_fill_bytes(bytes).map_err(|error| error.to_string());
    fill(&mut salt).and_then(|()| fill(&mut nonce))?;
    let (memory, passes, lanes) = COST;
    let head = format!("{FIRST_LINE}\nargon2id {memory} {passes} {lanes} {}\n", hex::encode(salt));
    let under = derive(passphrase, &salt, COST)?;
    let mut text = Zeroizing::new(*key);
    let tag = Aes256Gcm::new((&*under).into())
        .encrypt_inout_detached(&nonce.into(), head.as_bytes(), InOutBuf::from(&mut text[..]))
        .map_err(|_| "AES-GCM refused 32 bytes")?;
    Ok(format!("{head}aes-256-gcm {} {}{}\n", hex::encode(nonce), hex::encode(*text), hex::encode(tag)))
}

/// The key in a protected file.
///
/// # Errors
/// What is wrong with the text, or that the passphrase is not the one; never anything of the key.
pub fn open(text: &str, passphrase: &str) -> Result<Zeroizing<[u8; 32]>, String> {
    let bad = |line: usize| format!("line {line} is not what `tonewall keys make` writes");
    let lines: Vec<&str> = text.lines().collect();
    let [FIRST_LINE, second, third] = lines[..] else {
        return Err(bad(if lines.first() == Some(&FIRST_LINE) { 3 } else { 1 }));
    };
    let words: Vec<&str> = second.split(' ').collect();
    let ["argon2id", memory, passes, lanes, salt] = words[..] else { return Err(bad(2)) };
    let number = |text: &str, most| text.parse::<u32>().ok().filter(|n| (1..=most).contains(n)).ok_or_else(|| bad(2));
    let cost = (number(memory, MOST.0)?, number(passes, MOST.1)?, number(lanes, MOST.2)?);
    let mut salt_bytes = [0u8; 16];
    hex::decode_to_slice(salt, &mut salt_bytes).map_err(|_| bad(2))?;
    let words: Vec<&str> = third.split(' ').collect();
    let ["aes-256-gcm", nonce, sealed] = words[..] else { return Err(bad(3)) };
    let (mut nonce_bytes, mut sealed_bytes) = ([0u8; 12], [0u8; 48]);
    hex::decode_to_slice(nonce, &mut nonce_bytes).map_err(|_| bad(3))?;
    hex::decode_to_slice(sealed, &mut sealed_bytes).map_err(|_| bad(3))?;
    let under = derive(passphrase, &salt_bytes, cost)?;
    let head = format!("{FIRST_LINE}\n{second}\n");
    let mut key = Zeroizing::new([0u8; 32]);
    key.copy_from_slice(&sealed_bytes[..32]);
    let mut tag = [0u8; 16];
    tag.copy_from_slice(&sealed_bytes[32..]);
    Aes256Gcm::new((&*under).into())
        .decrypt_inout_detached(&nonce_bytes.into(), head.as_bytes(), InOutBuf::from(&mut key[..]), &tag.into())
        .map_err(|_| "the passphrase is not the one it was made with, or the file was altered".to_owned())?;
    Ok(key)
}

fn derive(
    passphrase: &str,
    salt: &[u8],
    (memory, passes, lanes): (u32, u32, u32),
) -> Result<Zeroizing<[u8; 32]>, String> {
    let mut key = Zeroizing::new([0u8; 32]);
    let params = Params::new(memory, passes, lanes, Some(32)).map_err(|error| format!("argon2id: {error}"))?;
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(passphrase.as_bytes(), salt, &mut *key)
        .map_err(|error| format!("argon2id: {error}"))?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_passphrase_opens_a_protected_key_and_no_byte_may_change() {
        let key: [u8; 32] = std::array::from_fn(|at| at as u8);
        let text = protect(&key, "correct horse").expect("protected");
        assert!(is_protected(&text) && !text.contains(&hex::encode(key)));
        assert_eq!(*open(&text, "correct horse").expect("opened"), key);
        for passphrase in ["", "correct hors", "correct horse "] {
            assert!(open(&text, passphrase).expect_err("refused").contains("passphrase"), "{passphrase}");
        }
        // Cheaper parameters are not taken for the ones it was made with.
        let cheap = text.replacen("65536 3 1", "8 1 1", 1);
        assert!(open(&cheap, "correct horse").is_err());
        for (from, to, line) in [
            ("tonewall-key 1", "tonewall-key 2", 1),
            ("65536", "99999999", 2),
            ("argon2id", "scrypt", 2),
            ("aes-256-gcm", "rot13", 3),
        ] {
            let error = open(&text.replacen(from, to, 1), "x").expect_err("refused");
            assert!(error.contains(&format!("line {line}")), "{error}");
        }
        assert!(open("", "x").is_err() && open("tonewall-key 1\n", "x").is_err());
    }
}
