//! What was fetched from the object store to be read: sealed files that have no name on this disk any more, shared by
//! whoever reads the same recording and kept for some minutes, so that a player that seeks does not fetch it again each
//! time. All of them together are bounded; whoever comes when that is all being read is sent away. They are sealed as in
//! the store, and nothing of them outlives the process.
//!
//! ```text
//!  lend ─► kept? ─────────────────────────────► the open file
//!            │ no; somebody fetches it: wait
//!            └─ room made ─► fetched, unlinked ─► kept ─► unused for minutes, or room wanted: closed
//! ```

use std::collections::HashMap;
use std::fs::File;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::VaultError;
use crate::base::ids::RecordingId;
use crate::record::catalogue::Stored;

/// Most bytes of fetched files at once. One recording that is longer is lent all the same, when nothing else is.
const MOST: u64 = 1 << 30;

/// How long one that nobody reads is kept.
const KEPT: Duration = Duration::from_secs(5 * 60);

/// A fetched recording.
#[derive(Clone)]
pub(super) struct Lent {
    pub(super) file: Arc<File>,
    pub(super) seal: Option<Vec<u8>>,
}

struct Copy {
    recording: RecordingId,
    sha256: String,
    bytes: u64,
    lent: Lent,
    used: Instant,
}

impl Copy {
    fn is_read(&self) -> bool {
        Arc::strong_count(&self.lent.file) > 1
    }
}

#[derive(Default)]
struct State {
    copies: Vec<Copy>,
    /// Under way, with their bytes.
    coming: HashMap<RecordingId, u64>,
}

/// The fetched recordings of a vault.
pub(super) struct Fetched {
    state: Mutex<State>,
    came: Condvar,
    most: u64,
}

impl Default for Fetched {
    fn default() -> Self {
        Self::bounded(MOST)
    }
}

impl Fetched {
    /// With another bound.
    pub(super) fn bounded(most: u64) -> Self {
        Self { state: Mutex::default(), came: Condvar::new(), most }
    }

    /// The recording as `stored`, fetched by `fetch` if it is not here.
    ///
    /// # Errors
    /// [`VaultError::Full`] when too much is being read; what `fetch` says.
    pub(super) fn lend(
        &self,
        recording: RecordingId,
        stored: &Stored,
        fetch: impl FnOnce() -> Result<Lent, VaultError>,
    ) -> Result<Lent, VaultError> {
        let mut state = self.lock();
        loop {
            let here = |copy: &&mut Copy| copy.recording == recording && copy.sha256 == stored.sha256;
            if let Some(copy) = state.copies.iter_mut().find(here) {
                copy.used = Instant::now();
                return Ok(copy.lent.clone());
            }
            if !state.coming.contains_key(&recording) {
                break;
            }
            state = self.came.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if !make_room(&mut state, stored.bytes, self.most) {
            return Err(VaultError::Full);
        }
        state.coming.insert(recording, stored.bytes);
        drop(state);
        let _coming = Coming { fetched: self, recording };
        let lent = fetch()?;
        let (sha256, bytes, used) = (stored.sha256.clone(), stored.bytes, Instant::now());
        self.lock().copies.push(Copy { recording, sha256, bytes, lent: lent.clone(), used });
        Ok(lent)
    }

    /// Whether somebody reads a fetched copy of it.
    pub(super) fn is_read(&self, recording: RecordingId) -> bool {
        let state = self.lock();
        state.coming.contains_key(&recording)
            || state.copies.iter().any(|copy| copy.recording == recording && copy.is_read())
    }

    /// Lets go of every copy of it. Gives their files, for whoever wipes them.
    pub(super) fn forget(&self, recording: RecordingId) -> Vec<Arc<File>> {
        let mut state = self.lock();
        let (gone, kept) = std::mem::take(&mut state.copies).into_iter().partition(|c: &Copy| c.recording == recording);
        state.copies = kept;
        let gone: Vec<Copy> = gone;
        gone.into_iter().map(|copy| copy.lent.file).collect()
    }

    /// Closes what nobody has read for a while.
    pub(super) fn tidy(&self, now: Instant) {
        self.lock().copies.retain(|copy| copy.is_read() || now.duration_since(copy.used) < KEPT);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes what was not read for longest until so many bytes fit; `false` when what is left is being read.
fn make_room(state: &mut State, bytes: u64, most: u64) -> bool {
    let coming: u64 = state.coming.values().sum();
    loop {
        let taken = coming + state.copies.iter().map(|copy| copy.bytes).sum::<u64>();
        if taken == 0 || taken.saturating_add(bytes) <= most {
            return true;
        }
        let idle = state.copies.iter().enumerate().filter(|(_, copy)| !copy.is_read());
        let Some((at, _)) = idle.min_by_key(|(_, copy)| copy.used) else { return false };
        state.copies.swap_remove(at);
    }
}

/// A fetch under way; whoever waits for it is woken when it is over, however it ends.
struct Coming<'a> {
    fetched: &'a Fetched,
    recording: RecordingId,
}

impl Drop for Coming<'_> {
    fn drop(&mut self) {
        self.fetched.lock().coming.remove(&self.recording);
        self.fetched.came.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;
    use crate::base::Random;
    use crate::base::time::WallMs;

    fn stored(bytes: u64) -> Stored {
        Stored { key: "k".into(), bytes, sha256: "aa".into(), at_ms: WallMs(1) }
    }

    fn lent() -> Result<Lent, VaultError> {
        Ok(Lent { file: Arc::new(tempfile::tempfile()?), seal: None })
    }

    #[test]
    fn one_is_fetched_once_for_all_who_read_it_and_all_together_are_bounded() {
        let mut random = Random::seed_from_u64(1);
        let [one, two, three] = std::array::from_fn(|_| RecordingId::draw(&mut random));
        let fetched = Fetched::bounded(100);
        let mut fetches = 0;
        let mut ask = |id, bytes| {
            fetched.lend(id, &stored(bytes), || {
                fetches += 1;
                lent()
            })
        };
        let read = [ask(one, 60).expect("lent"), ask(one, 60).expect("lent again")];
        assert!(fetched.is_read(one));
        assert!(matches!(ask(two, 60), Err(VaultError::Full)), "the first is being read");
        drop(read);
        assert!(!fetched.is_read(one));
        let second = ask(two, 60).expect("the first made room");
        drop(second);
        let long = ask(three, 900).expect("longer than the bound, and alone");
        assert!(matches!(ask(one, 1), Err(VaultError::Full)));
        drop(long);
        assert_eq!(fetches, 3);
        fetched.tidy(Instant::now());
        assert_eq!(fetched.forget(three).len(), 1);
        drop(fetched.lend(one, &stored(1), lent));
        fetched.tidy(Instant::now() + KEPT);
        assert!(fetched.forget(one).is_empty());
    }

    #[test]
    fn who_comes_while_it_is_fetched_waits_for_that() {
        let recording = RecordingId::draw(&mut Random::seed_from_u64(2));
        let fetched = Fetched::default();
        let fetches = std::sync::atomic::AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let lent = fetched.lend(recording, &stored(5), || {
                        fetches.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        std::thread::sleep(Duration::from_millis(30));
                        lent()
                    });
                    assert!(lent.is_ok());
                });
            }
        });
        assert_eq!(fetches.into_inner(), 1);
        // One that failed is tried again by who waited.
        assert!(fetched.lend(recording, &stored(6), || Err(VaultError::Full)).is_ok(), "it is here already");
        fetched.forget(recording);
        assert!(fetched.lend(recording, &stored(6), || Err(VaultError::Elsewhere(recording))).is_err());
        assert!(fetched.lend(recording, &stored(6), lent).is_ok());
    }
}
