//! The keys of a running node: fetched from where the configuration says, asked for again where a service gives them, and
//! replaced as a whole when the configuration is read again. Whoever seals asks [`Keys::current`] each time, so a new key
//! is in force for the next recording; whoever reads asks [`Keys::ring`].
//!
//! ```text
//!   file, variable ──┐ once                         ┌─► current ─► new recordings
//!   passphrase file ─┤                   Keys ──────┤
//!   command ─────────┤ every refresh_s   (one ring) └─► ring ────► reading, rewrapping
//!   PKCS#11 token ───┘ each operation
//! ```
//!
//! A key of a command whose service does not answer stays in force for `cache_s` after it was last had; then it is in no
//! ring any more: nothing new is sealed under it, and what follows is the recording policy's business. A reload that
//! cannot fetch every key changes nothing.

mod command;
pub mod protected;
pub mod token;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use std::time::{Duration, Instant};

use super::keyfile::{KeyFileError, load_key};
use crate::config::{KekRef, KekSource};
use crate::record::keys::{Kek, KeyDown, KeyError, KeyRing};
pub(super) use command::{first_line, print_of};

/// How often the thread looks whether a key is to be asked for again.
const LOOK: Duration = Duration::from_millis(500);

/// The keys in force.
pub struct Keys {
    held: RwLock<Held>,
    /// What is configured, and when each key was had.
    follow: Mutex<Follow>,
}

#[derive(Default)]
struct Held {
    ring: Arc<KeyRing>,
    /// The current key's id where there is one that has run out.
    out: Option<String>,
}

#[derive(Default)]
struct Follow {
    configured: crate::config::Keys,
    fetched: Vec<Fetched>,
}

struct Fetched {
    kek: Kek,
    source: KekRef,
    /// When it was had last.
    had: Instant,
    /// When it was asked for last, in vain or not.
    asked: Instant,
    told: bool,
}

impl Fetched {
    fn now(kek: Kek, source: &KekRef, now: Instant) -> Self {
        Self { kek, source: source.clone(), had: now, asked: now, told: false }
    }

    fn has_run_out(&self, now: Instant) -> bool {
        match &self.source.source {
            KekSource::Command(command) => now.duration_since(self.had) > command.cache,
            KekSource::File { .. } | KekSource::Variable(_) | KekSource::Token(_) => false,
        }
    }

    fn is_to_be_asked(&self, now: Instant) -> bool {
        match &self.source.source {
            KekSource::Command(command) => now.duration_since(self.asked) >= command.refresh,
            KekSource::File { .. } | KekSource::Variable(_) | KekSource::Token(_) => false,
        }
    }
}

impl Keys {
    /// These keys, for good.
    pub fn fixed(ring: KeyRing) -> Arc<Self> {
        let held = Held { ring: Arc::new(ring), out: None };
        Arc::new(Self { held: RwLock::new(held), follow: Mutex::default() })
    }

    /// Fetches the keys the configuration names, and from then on asks again for those that a service gives.
    ///
    /// # Errors
    /// Of the first key that cannot be had.
    pub fn load(configured: &crate::config::Keys) -> Result<Arc<Self>, KeyFileError> {
        let keys = Self::fixed(KeyRing::default());
        keys.reload(configured)?;
        Ok(keys)
    }

    /// Keys that were had already, in the order of the configuration: the current one first.
    ///
    /// # Errors
    /// When they do not go together.
    pub fn of(configured: &crate::config::Keys, had: Vec<Kek>) -> Result<Arc<Self>, KeyFileError> {
        let keys = Self::fixed(KeyRing::default());
        let now = Instant::now();
        let sources = configured.current.iter().chain(&configured.old);
        let fetched = |(kek, source): (Kek, &KekRef)| Fetched::now(kek, source, now);
        keys.put_in_force(configured, had.into_iter().zip(sources).map(fetched).collect(), now)?;
        Ok(keys)
    }

    /// The key new recordings are sealed under.
    ///
    /// # Errors
    /// When there is none, or its service has not answered for too long.
    pub fn current(&self) -> Result<Kek, KeyDown> {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(id) = &held.out {
            let why = "its service has not answered for longer than cache_s".to_owned();
            return Err(KeyDown { id: id.clone(), why });
        }
        let none = || KeyDown { id: String::new(), why: "there is no current key".to_owned() };
        held.ring.current().cloned().ok_or_else(none)
    }

    /// Every key that can be read with now.
    pub fn ring(&self) -> Arc<KeyRing> {
        self.held.read().unwrap_or_else(PoisonError::into_inner).ring.clone()
    }

    /// Fetches the keys of a new configuration and puts them in force together. Gives the id of the current key when it is
    /// another than before.
    ///
    /// # Errors
    /// Of the first key that cannot be had; then nothing has changed.
    pub fn reload(self: &Arc<Self>, configured: &crate::config::Keys) -> Result<Option<String>, KeyFileError> {
        let before = self.ring().current().map(|kek| kek.id().to_owned());
        let now = Instant::now();
        let mut fetched = Vec::new();
        for source in configured.current.iter().chain(&configured.old) {
            // Tokens are opened once: a session stays good as long as its key is wanted.
            let known =
                self.follow().fetched.iter().find(|known| known.source == *source).map(|known| known.kek.clone());
            let kek = match (known, &source.source) {
                (Some(kek), KekSource::Token(_)) => kek,
                _ => load_key(source)?,
            };
            fetched.push(Fetched::now(kek, source, now));
        }
        self.put_in_force(configured, fetched, now)?;
        let after = self.ring().current().map(|kek| kek.id().to_owned());
        Ok(if before == after { None } else { after })
    }

    fn put_in_force(
        self: &Arc<Self>,
        configured: &crate::config::Keys,
        fetched: Vec<Fetched>,
        now: Instant,
    ) -> Result<(), KeyFileError> {
        let ring = ring_of(configured.current.is_some(), &fetched, now).map_err(KeyFileError::Ring)?;
        let asks = fetched.iter().any(|key| matches!(key.source.source, KekSource::Command(_)));
        let asked = {
            let mut follow = self.follow();
            let asked = follow.fetched.iter().any(|key| matches!(key.source.source, KekSource::Command(_)));
            *follow = Follow { configured: configured.clone(), fetched };
            self.put(ring, None);
            asked
        };
        if asks && !asked {
            let keys = Arc::downgrade(self);
            let thread = std::thread::Builder::new().name("keys".into()).spawn(move || follow(&keys));
            if let Err(error) = thread {
                tracing::error!(%error, "keys of a service are not asked for again");
            }
        }
        Ok(())
    }

    /// Reads the configuration file again and puts its keys in force; on a thread of its own, for a service may take its
    /// time. What is wrong is told in the log, and the keys stay as they are. `done` hears the id of the current key where
    /// that is another now, or that nothing was changed.
    pub fn reload_from(
        self: &Arc<Self>,
        file: std::path::PathBuf,
        done: impl FnOnce(Result<Option<&str>, ()>) + Send + 'static,
    ) {
        let keys = self.clone();
        let reload = move || {
            let told = crate::config::Config::load(&file).map_err(|faults| faults.to_string());
            match told.and_then(|config| keys.reload(&config.keys).map_err(|error| error.to_string())) {
                Ok(Some(id)) => {
                    tracing::info!(key = id, "new recordings are sealed under another key");
                    done(Ok(Some(&id)));
                }
                Ok(None) => {
                    tracing::info!("keys were read again");
                    done(Ok(None));
                }
                Err(why) => {
                    tracing::error!(%why, "the former keys stay");
                    done(Err(()));
                }
            }
        };
        if let Err(error) = std::thread::Builder::new().name("reload".into()).spawn(reload) {
            tracing::error!(%error, "the former keys stay");
        }
    }

    /// Asks again for what is due, and takes out what has run out. `false` when no key comes from a service any more.
    fn look(&self, now: Instant) -> bool {
        let due: Vec<KekRef> = {
            let follow = self.follow();
            follow.fetched.iter().filter(|key| key.is_to_be_asked(now)).map(|key| key.source.clone()).collect()
        };
        // Not under the lock: a service may take its time.
        let answers: Vec<_> = due.into_iter().map(|source| (load_key(&source), source)).collect();
        let mut follow = self.follow();
        for (answer, source) in answers {
            let Some(key) = follow.fetched.iter_mut().find(|key| key.source == source) else { continue };
            key.asked = now;
            match answer {
                Ok(kek) if kek.fingerprint() == key.kek.fingerprint() => {
                    if std::mem::take(&mut key.told) {
                        tracing::info!(key = source.id, "the key's service answers again");
                    }
                    key.had = now;
                }
                Ok(_) => {
                    tracing::error!(
                        key = source.id,
                        "the service gives another key under the same id; the one had stays"
                    );
                    key.told = true;
                }
                Err(error) => {
                    key.told = true;
                    tracing::error!(key = source.id, %error, "the key's service does not answer; the key that was had is used");
                }
            }
        }
        let has_current = follow.configured.current.is_some();
        if let Ok(ring) = ring_of(has_current, &follow.fetched, now) {
            let out = follow.fetched.first().filter(|key| has_current && key.has_run_out(now));
            self.put(ring, out.map(|key| key.source.id.clone()));
        }
        follow.fetched.iter().any(|key| matches!(key.source.source, KekSource::Command(_)))
    }

    fn put(&self, ring: KeyRing, out: Option<String>) {
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(id) = &out
            && held.out.is_none()
        {
            tracing::error!(key = id, "the key has run out: nothing is sealed until its service answers");
        }
        *held = Held { ring: Arc::new(ring), out };
    }

    fn follow(&self) -> MutexGuard<'_, Follow> {
        self.follow.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The keys that have not run out, the current one first if it is among them.
fn ring_of(has_current: bool, fetched: &[Fetched], now: Instant) -> Result<KeyRing, KeyError> {
    let good = |key: &&Fetched| !key.has_run_out(now);
    let kek = |key: &Fetched| key.kek.clone();
    let (first, rest) = match fetched.split_first() {
        Some((first, rest)) if has_current => (Some(first), rest),
        _ => (None, fetched),
    };
    KeyRing::new(first.filter(good).map(kek), rest.iter().filter(good).map(kek).collect())
}

fn follow(keys: &Weak<Keys>) {
    loop {
        std::thread::sleep(LOOK);
        match keys.upgrade() {
            Some(keys) if keys.look(Instant::now()) => {}
            _ => return,
        }
    }
}

/// A passphrase from where it is.
///
/// # Errors
/// Why it cannot be had.
pub fn passphrase(place: &crate::config::SecretPlace) -> Result<zeroize::Zeroizing<String>, String> {
    first_line(place)
}

#[cfg(test)]
mod tests;
