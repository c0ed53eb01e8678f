//! `tonewall canary`: a round of canary calls now, by a node of its own that has the configuration's keys, recordings, mask
//! and horizon, and nothing that leads off this machine: no trunk, API, webhook or payment provider. Beside a running node.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use crate::capture::Discard;
use crate::config::{Canary, Config};
use crate::rt::canary::Verdict;
use crate::rt::keyfile::load_keys;
use crate::rt::keys::Keys;
use crate::rt::logging;
use crate::rt::node::{Node, Options};

/// A canary found something.
pub const EXIT_FOUND: u8 = 2;

/// Plays a round and prints a line per call. Status 0: nothing found; 2: something was; 1: it could not be played.
#[allow(clippy::print_stderr)]
pub fn run(file: &Path) -> ExitCode {
    match play(file) {
        Ok(verdicts) => {
            let mut out = std::io::stdout().lock();
            for verdict in &verdicts {
                let word = if verdict.is_good() { "ok" } else { "FAILED" };
                // A reader that has gone needs no lines.
                let _ = writeln!(out, "{:<11} {word}: {}", verdict.name, verdict.text());
            }
            let good = !verdicts.is_empty() && verdicts.iter().all(Verdict::is_good);
            if good { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FOUND) }
        }
        Err(why) => {
            eprintln!("{why}");
            ExitCode::from(super::EXIT_FAILED)
        }
    }
}

fn play(file: &Path) -> Result<Vec<Verdict>, Box<dyn std::error::Error>> {
    let mut config = Config::load(file)?;
    config.canary.get_or_insert_with(Canary::default);
    config.log.level = crate::config::LogLevel::Error;
    let _flush = logging::start(&config.log);
    let keys = Keys::fixed(load_keys(&config.keys)?);
    let aside = tempdir(&mut config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let verdicts = runtime.block_on(async {
        let options = Options { config, keys, recipient: Box::new(Discard), demo: None };
        let mut node = Node::start_for_canary(options).await?;
        let verdicts = match node.canary() {
            Some(bird) => bird.now().await.unwrap_or_default(),
            None => Vec::new(),
        };
        node.stop_now();
        node.ended().await;
        Ok::<_, Box<dyn std::error::Error>>(verdicts)
    });
    let _ = std::fs::remove_dir_all(aside);
    verdicts
}

/// The store of payments belongs to the running node; this one gets an empty one of its own.
fn tempdir(config: &mut Config) -> std::io::Result<std::path::PathBuf> {
    use std::os::unix::fs::DirBuilderExt;
    let path = std::env::temp_dir().join(format!("tonewall-canary-{}", std::process::id()));
    std::fs::DirBuilder::new().mode(0o700).create(&path)?;
    config.storage.payments = path.join("payments.db");
    Ok(path)
}
