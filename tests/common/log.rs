//! An audit log for a node under test: its directory and key, a second place for its checkpoints, and `tonewall audit`.
#![allow(dead_code, clippy::disallowed_methods)] // Each test binary uses its part; tests may wait, and open sockets.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// A directory with a key, and the configuration's section that names both.
pub struct Log {
    pub root: tempfile::TempDir,
}

impl Log {
    pub fn new() -> Self {
        let root = tempfile::tempdir().expect("a directory");
        let log = Self { root };
        let key = log.at("audit.key");
        let (code, told) = audit(&["keygen", "--name", "tonewall/test", "--output", key.to_str().expect("a path")]);
        assert_eq!(code, 0, "{told}");
        assert!(told.starts_with("tonewall/test+"), "{told}");
        assert_eq!(fs::metadata(&key).expect("the key").permissions().mode() & 0o777, 0o400);
        log
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub fn section(&self, more: &str) -> String {
        format!(
            "\n[audit]\ndirectory = {:?}\nkey = {:?}\ncheckpoint_s = 1\ncheckpoint_entries = 5\nfile_mb = 1\n{more}\n\
             [[audit.ship]]\nname = \"witness\"\ndirectory = {:?}\n",
            self.at("log"),
            self.at("audit.key"),
            self.at("witness")
        )
    }

    /// What `tonewall audit verify` says, with or without the checkpoints that were shipped elsewhere.
    pub fn verify(&self, elsewhere: bool) -> (i32, String) {
        let (key, log, witness) = (self.at("audit.key.pub"), self.at("log"), self.at("witness"));
        let paths = [&key, &witness, &log].map(|path| path.to_str().expect("a path").to_owned());
        let mut arguments = vec!["verify", "--key", &paths[0]];
        // Killed before anything was shipped, there is no such place yet.
        if elsewhere && witness.exists() {
            arguments.extend(["--checkpoints", &paths[1]]);
        }
        arguments.push(&paths[2]);
        audit(&arguments)
    }

    /// Its files, oldest first.
    pub fn pages(&self) -> Vec<PathBuf> {
        let mut pages: Vec<PathBuf> = fs::read_dir(self.at("log"))
            .expect("the log")
            .map(|entry| entry.expect("an entry").path())
            .filter(|path| path.extension().is_some_and(|kind| kind == "log"))
            .collect();
        pages.sort();
        pages
    }

    /// How many entries it has of an action.
    pub fn count(&self, action: &str) -> usize {
        let action = format!("\"action\":\"{action}\"");
        let of = |page: &PathBuf| fs::read_to_string(page).expect("text").matches(&action).count();
        self.pages().iter().map(of).sum()
    }

    /// Holds what a kill left: whole, or torn in its last line, and signed as far as it was before at least. Gives how far
    /// it is signed; `None`: the kill came before anything was.
    pub fn after_a_kill(&self, signed: u64) -> Option<u64> {
        let (code, told) = self.verify(true);
        if code == 5 && signed == 0 {
            return None;
        }
        assert!(code == 0 || code == 3, "{code} {told}");
        let upto = told.lines().find_map(|line| line.strip_prefix("whole up to entry ")).expect("a line");
        let upto: u64 = upto.split(',').next().and_then(|number| number.parse().ok()).expect("a number");
        assert!(upto >= signed, "{upto} after {signed}");
        Some(upto)
    }
}

/// Runs `tonewall audit`: its status, and what it said.
pub fn audit(arguments: &[&str]) -> (i32, String) {
    let done = Command::new(env!("CARGO_BIN_EXE_tonewall")).arg("audit").args(arguments).output().expect("it runs");
    let told = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
    (done.status.code().unwrap_or(-1), told)
}

/// What the API at `at` answers: status and body. `None`: whoever was there is gone, before or while it answered.
pub fn try_ask(at: SocketAddr, (method, path): (&str, &str), key: &str, body: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(at).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {at}\r\nAuthorization: Bearer {key}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).ok()?;
    let mut text = String::new();
    // A connection that breaks off after the answer is no matter.
    let _ = stream.read_to_string(&mut text);
    let status = text.split(' ').nth(1)?.parse().ok()?;
    let (_, body) = text.split_once("\r\n\r\n")?;
    Some((status, body.to_owned()))
}
