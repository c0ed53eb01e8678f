//! What a command prints, within a time and a size: a key, a passphrase, a PIN.

use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use crate::config::SecretPlace;

/// The most a command may print.
const MOST: u64 = 64 * 1024;

/// How long a command that prints a passphrase may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What `argv` prints on its standard output. It gets no input; what it says on standard error goes where ours goes.
///
/// # Errors
/// When it cannot be started, fails, prints too much or takes too long: then it is killed.
pub(in crate::rt) fn print_of(argv: &[String], patience: Duration) -> Result<Zeroizing<String>, String> {
    let (program, arguments) = argv.split_first().ok_or("the command is empty")?;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{program} cannot be started: {error}"))?;
    let mut output = child.stdout.take().ok_or("the command has no output")?;
    let (sender, receiver) = mpsc::channel();
    // It may leave a child behind that holds the pipe open; this thread waits for it, not we.
    std::thread::spawn(move || {
        let mut text = Zeroizing::new(String::with_capacity(1024));
        let read = output.by_ref().take(MOST).read_to_string(&mut text).map(|_| text);
        // Nobody listens any more when it took too long.
        let _ = sender.send(read);
    });
    let begun = Instant::now();
    let read = receiver.recv_timeout(patience);
    let ended = loop {
        match child.try_wait() {
            Ok(None) if read.is_ok() && begun.elapsed() < patience => std::thread::sleep(Duration::from_millis(5)),
            ended => break ended,
        }
    };
    if !matches!(ended, Ok(Some(_))) {
        // It may have ended just now.
        let _ = child.kill();
        let _ = child.wait();
        return Err(format!("{program} did not end within {} s and was killed", patience.as_secs()));
    }
    // Whoever prints on and on dies of our not reading on; that is not why.
    if matches!(&read, Ok(Ok(text)) if text.len() as u64 >= MOST) {
        return Err(format!("{program} printed more than {MOST} bytes"));
    }
    let status = ended.ok().flatten();
    if let Some(status) = status.filter(|status| !status.success()) {
        return Err(format!("{program} failed: {status}"));
    }
    match read {
        Ok(Ok(text)) => Ok(text),
        Ok(Err(error)) => Err(format!("what {program} prints cannot be read: {error}")),
        Err(_) => Err(format!("{program} did not end within {} s", patience.as_secs())),
    }
}

/// The first line of a secret: a passphrase or a PIN.
///
/// # Errors
/// Why it cannot be had; never its text.
pub(in crate::rt) fn first_line(place: &SecretPlace) -> Result<Zeroizing<String>, String> {
    let text = match place {
        SecretPlace::File(path) => {
            let mode = |mode| format!("{} may be read by others (mode {mode:04o}); `chmod 0400` it", path.display());
            super::super::keyfile::read_private(path)
                .map_err(|error| format!("cannot read {}: {error}", path.display()))?
                .map_err(mode)?
        }
        SecretPlace::Variable(name) => Zeroizing::new(
            std::env::var(name).map_err(|_| format!("environment variable {name} is not set (or not text)"))?,
        ),
        SecretPlace::Command(argv) => print_of(argv, PATIENCE)?,
    };
    match text.lines().next().unwrap_or_default() {
        "" => Err("the passphrase or PIN is empty".to_owned()),
        line => Ok(Zeroizing::new(line.to_owned())),
    }
}
