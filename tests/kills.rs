//! kill -9 of a whole running node at random instants: the recorder and the audit log together, with calls whose callers
//! key cards under a mask, and with requests that are entries. What the node had acknowledged is there and opens, what it
//! had not is no plaintext, and the next start finds its way through all of it. Only published test cards.
//!
//! `TONEWALL_NODE_KILLS=300` makes it big.
#![allow(clippy::disallowed_methods)] // Tests may wait, and open sockets.

mod common;
#[path = "common/log.rs"]
mod log;
#[path = "common/needles.rs"]
mod needles;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use common::{API_KEYS, KEK, Plan, Running};
use log::{Log, try_ask};
use needles::{Files, Needles};
use rand::{RngExt, SeedableRng};
use serde_json::Value;
use tonewall::base::Random;
use tonewall::config::Codec;
use tonewall::record::catalogue::{Query, Retention, State};
use tonewall::record::keys::{Kek, KeyRing};
use tonewall::record::place;
use tonewall::record::sealed::{Item, Tear, Verdict, verify};
use tonewall::rt::catalogue::Catalogue;
use tonewall::rt::peers::{Exchange, Phone};
use tonewall::testkit::keys::{Form, typed};
use tonewall::testkit::rtp_peer::voice;
use tonewall::testkit::ua::{Answer, Profile, UserAgent};

/// What the first two callers of each round key, as tones and as events.
const CARDS: [&str; 2] = ["6011000990139424", "3566002020360505"];

/// Calls of a round.
const CALLS: usize = 4;

/// Kills of one site; the next ones get a new one, so that looking through all of it stays cheap.
const KILLS_OF_A_SITE: usize = 25;

/// How long self-audits may take at the end of a site: a quarter of a core that others use too.
const PATIENCE: Duration = Duration::from_secs(300);

/// A node, its peers, and what is remembered of earlier rounds.
struct Site {
    node: Running,
    log: Log,
    pbx: Exchange,
    carrier: Exchange,
    files: Files,
    ring: KeyRing,
    /// Recordings of earlier rounds.
    known: BTreeSet<PathBuf>,
    /// How many of them were cut.
    cut: usize,
    tickets: usize,
    signed: u64,
    rounds: usize,
}

/// What the node had told of a round before it was killed.
#[derive(Default)]
struct Told {
    /// Chunks that were synced, by its metrics.
    chunks: u64,
    /// Requests it answered whose entries must be there.
    tickets: usize,
    /// Cards whose keying had begun under a mask.
    keyed: usize,
}

#[derive(Debug, Default)]
struct Tally {
    acknowledged: u64,
    opened: u64,
    recordings: usize,
    torn: usize,
    closed: usize,
    /// Recordings in whose sound the needles were found: they would be found outside, too.
    spoken: usize,
    keyed: usize,
    entries: usize,
    looked_through: u64,
    audited: usize,
    /// Cut recordings that a command did not give out.
    withheld: usize,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_killed_at_any_instant_keeps_what_it_acknowledged_and_leaves_no_plaintext() {
    let kills: usize = std::env::var("TONEWALL_NODE_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(3);
    let mut random = Random::seed_from_u64(4_711);
    let mut tally = Tally::default();
    let begun = Instant::now();
    let mut left = kills;
    while left > 0 {
        let here = left.min(KILLS_OF_A_SITE);
        let mut site = Site::open().await;
        for kill in 0..here {
            if kill > 0 {
                tokio::task::block_in_place(|| site.node.restart());
            }
            // While calls come in, while they talk and key, and later: in equal parts.
            let at = match kill % 3 {
                0 => random.random_range(1_000..1_900),
                1 => random.random_range(0..600),
                _ => random.random_range(1_900..2_800),
            };
            site.round(&mut random, Duration::from_millis(at), &mut tally).await;
        }
        site.end(&mut tally).await;
        left -= here;
    }
    let each = begun.elapsed() / u32::try_from(kills).expect("a number");
    common::say(&format!("whole node: {kills} kills of {each:.2?} each, nothing lost, no plaintext: {tally:?}"));
    assert!(tally.opened > kills as u64 && tally.spoken > 0 && tally.keyed > 0 && tally.withheld > 0, "{tally:?}");
    assert!(tally.entries > kills, "{tally:?}");
}

impl Site {
    async fn open() -> Site {
        let log = Log::new();
        let ip = IpAddr::from(Ipv4Addr::LOCALHOST);
        let answering = Profile::new("5551000").answering(Answer::After(10));
        let pbx = Exchange::open(ip, 0, Some(answering), 1).await.expect("a PBX port");
        let carrier = Exchange::open(ip, 0, None, 2).await.expect("a carrier port");
        let now = || "redaction_horizon_s = 0".to_owned();
        let plan = Plan {
            carrier: carrier.address(),
            pbx: pbx.address(),
            guard: "signal",
            recording: "required",
            control: true,
            more: log.section(""),
            trunks: [now(), String::new()],
            ..Plan::new()
        };
        let node = tokio::task::block_in_place(|| Running::start(&plan));
        let kek = Kek::parse("test", KEK).expect("a key");
        let ring = KeyRing::new(Some(kek), Vec::new()).expect("a ring");
        let (files, known) = (Files::default(), BTreeSet::new());
        Site { node, log, pbx, carrier, files, ring, known, cut: 0, tickets: 0, signed: 0, rounds: 0 }
    }

    /// Calls, cards and requests on the running node, its death after `life`, and everything that must hold then.
    async fn round(&mut self, random: &mut Random, life: Duration, tally: &mut Tally) {
        let kill_at = Instant::now() + life;
        let (seed, control) = (random.random::<u32>(), self.node.control.expect("the API"));
        let dead = Arc::new(AtomicBool::new(false));
        let callers: Vec<Phone> = (0..CALLS).map(|number| self.caller(number)).collect();
        let told = {
            let (dead, callers) = (dead.clone(), callers[..CARDS.len()].to_vec());
            tokio::task::spawn_blocking(move || use_it(control, &dead, &callers))
        };
        let target = self.node.carrier_side;
        let mut agents = Vec::new();
        for (number, caller) in callers.iter().enumerate() {
            caller.with(|phone, now| {
                phone.rtp.speak(voice(u64::from(seed) + number as u64, -20.0));
                phone.invite(now, "5551000", target);
            });
            // The next one a little later, so that their chunks are full at different times.
            let until = kill_at.min(Instant::now() + Duration::from_millis(if number + 1 < CALLS { 120 } else { 300 }));
            while let Some(agent) = self.pbx.ringing(until.saturating_duration_since(Instant::now())).await {
                let seed = u64::from(seed) + 1_000 + agents.len() as u64;
                agent.with(|phone, _| phone.rtp.speak(voice(seed, -20.0)));
                agents.push(agent);
            }
        }
        // Some calls are over before, or are just being ended.
        if self.rounds.is_multiple_of(2) {
            callers[CALLS - 1].with(UserAgent::hang_up);
        }
        tokio::time::sleep(kill_at.saturating_duration_since(Instant::now())).await;
        tokio::task::block_in_place(|| self.node.kill());
        dead.store(true, Relaxed);
        let told = told.await.expect("what it told");
        let mut lines = Vec::new();
        for phone in callers.iter().chain(&agents) {
            phone.with(|phone, now| {
                phone.rtp.stop();
                phone.hang_up(now);
                lines.push(phone.rtp.spoken().to_vec());
            });
        }
        tokio::task::block_in_place(|| self.look(&told, &Needles::new(&lines, &CARDS), tally));
        self.rounds += 1;
    }

    fn caller(&self, number: usize) -> Phone {
        let codec = if number.is_multiple_of(2) { Codec::Pcmu } else { Codec::Pcma };
        self.carrier.phone(Profile::new(&format!("+1415555010{number}")).only(codec)).expect("RTP ports")
    }

    fn recordings(&self) -> PathBuf {
        self.node.dir.path().join("recordings")
    }

    /// Everything that must hold after a kill, before the next start.
    fn look(&mut self, told: &Told, needles: &Needles, tally: &mut Tally) {
        let what = format!("round {} of its site", self.rounds);
        // The scanner finds what it is to find: it is not blind.
        assert!(needles.find(format!("as {} keyed", CARDS[0]).as_bytes()).is_some());
        assert!(needles.find(b"\x00\x35\x66\x00\x20\x20\x36\x05\x05").is_some());
        let mut opened = 0;
        let new: Vec<PathBuf> =
            sealed_files(&self.recordings()).into_iter().filter(|file| self.known.insert(file.clone())).collect();
        let mut cut = None;
        for file in &new {
            let (chunks, torn, sound) = self.read(file, &what);
            opened += chunks;
            match torn {
                None => tally.closed += 1,
                Some(tear) => {
                    cut = cut.or(Some(file));
                    self.cut += 1;
                    tally.torn += usize::from(tear != Tear::BetweenChunks);
                }
            }
            tally.spoken += usize::from(needles.count() > 0 && needles.find(&sound).is_some());
        }
        assert!(opened >= told.chunks, "{what}: {} chunks were acknowledged, {opened} open", told.chunks);
        tally.acknowledged += told.chunks;
        tally.opened += opened;
        tally.recordings += new.len();
        tally.keyed += told.keyed;
        tally.looked_through += self.files.hold_none(self.node.dir.path(), needles);
        tally.looked_through += self.files.hold_none(self.log.root.path(), needles);
        self.tickets += told.tickets;
        tally.entries += told.tickets;
        if let Some(signed) = self.log.after_a_kill(self.signed) {
            self.signed = signed;
        }
        if let Some(file) = cut {
            tally.withheld += usize::from(self.gives_nothing(file));
        }
    }

    /// Reads a recording that a kill left: its whole chunks, how it ends if it was cut, and its sound.
    fn read(&self, file: &Path, what: &str) -> (u64, Option<Tear>, Vec<u8>) {
        let seal = fs::read(place::seal_file(file)).ok();
        let mut sound = Vec::new();
        let input = fs::File::open(file).expect("the file");
        let report = verify(input, seal.as_deref(), place::recording_of(file), &self.ring, &mut |item| {
            if let Item::Audio(samples) = item {
                sound.extend_from_slice(samples);
            }
            Ok(())
        });
        let report = report.unwrap_or_else(|fault| panic!("{what}: {}: {fault:?}", file.display()));
        match report.verdict {
            Verdict::Intact => (report.chunks, None, sound),
            Verdict::Interrupted { good_chunks, tear } => (good_chunks, Some(tear), sound),
            Verdict::Tampered { at, why } => panic!("{what}: {}: {at:?}: {why:?}", file.display()),
        }
    }

    /// What a kill cut is given to nobody before it was audited. `false`: the kill came before it was catalogued, and a
    /// command hears what nobody has catalogued itself.
    fn gives_nothing(&self, file: &Path) -> bool {
        let recording = place::recording_of(file).expect("an id");
        let catalogue = Catalogue::open(&self.recordings(), Retention::default()).expect("the catalogue");
        if catalogue.get(recording).expect("the catalogue").is_none() {
            return false;
        }
        let id = recording.to_string();
        let out = self.log.at("call.wav");
        let done = Command::new(env!("CARGO_BIN_EXE_tonewall"))
            .args(["recordings", "--config"])
            .arg(&self.node.config)
            .args(["export", &id, "--purpose", "to see that it is refused", "-o"])
            .arg(&out)
            .output()
            .expect("it runs");
        let told = String::from_utf8_lossy(&done.stderr);
        assert!(!done.status.success() && !out.exists(), "{id} was given out unheard: {told}");
        true
    }

    /// The last start: every recording gets its verdict, every answered request has its entry.
    async fn end(mut self, tally: &mut Tally) {
        tokio::task::block_in_place(|| self.node.restart());
        let deadline = Instant::now() + PATIENCE;
        let verdicts = loop {
            let (verdicts, waiting) = tokio::task::block_in_place(|| self.verdicts());
            if waiting == 0 && verdicts.values().sum::<usize>() >= self.known.len() {
                break verdicts;
            }
            assert!(Instant::now() < deadline, "{waiting} recordings wait, {verdicts:?}: {}", self.node.log());
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        let want = [("Interrupted", self.cut), ("Sealed", self.known.len() - self.cut)];
        let want: BTreeMap<String, usize> =
            want.into_iter().filter(|(_, count)| *count > 0).map(|(state, count)| (state.to_owned(), count)).collect();
        assert_eq!(verdicts, want, "what was cut is told as interrupted, and nothing is quarantined");
        tally.audited += verdicts.values().sum::<usize>();
        tokio::task::block_in_place(|| self.node.kill());
        self.log.after_a_kill(self.signed);
        let kept = self.log.count("ticket-drawn");
        assert!(kept >= self.tickets, "{} entries were acknowledged, {kept} are there", self.tickets);
        assert!(kept <= self.tickets + self.rounds, "{kept} entries for {} requests", self.tickets);
    }

    /// How many recordings are in each state and may be given out, and how many are withheld.
    fn verdicts(&self) -> (BTreeMap<String, usize>, usize) {
        let catalogue = Catalogue::open(&self.recordings(), Retention::default()).expect("the catalogue");
        let (mut verdicts, mut waiting) = (BTreeMap::new(), 0);
        let found = catalogue.for_each(Query::default(), &mut |entry| {
            match entry.state {
                State::Recording | State::Finalising => waiting += 1,
                state => *verdicts.entry(format!("{state:?}")).or_insert(0) += 1,
            }
            Ok(())
        });
        found.expect("the catalogue");
        (verdicts, waiting)
    }
}

/// What people do with a node as long as it lives: a request that is an entry, a look at what is synced, and a mask
/// before each caller who keys a card.
fn use_it(at: SocketAddr, dead: &AtomicBool, callers: &[Phone]) -> Told {
    let mut told = Told::default();
    let mut keyed = [false; CARDS.len()];
    let ask = |method: &str, path: &str, role: usize, body: &str| try_ask(at, (method, path), API_KEYS[role].2, body);
    while !dead.load(Relaxed) {
        if let Some((201, _)) = ask("POST", "/v1/tickets", 1, "") {
            told.tickets += 1;
        }
        if let Some((200, text)) = ask("GET", "/metrics", 1, "") {
            let value = text.lines().find_map(|line| line.strip_prefix("tonewall_recorder_chunks_total "));
            // An answer that the kill cut off in the middle says nothing.
            if let Some(chunks) = value.and_then(|value| value.trim().parse::<u64>().ok()) {
                told.chunks = told.chunks.max(chunks);
            }
        }
        if keyed.iter().all(|keyed| *keyed) {
            continue;
        }
        let Some((200, text)) = ask("GET", "/v1/calls", 0, "") else { continue };
        let Ok(calls) = serde_json::from_str::<Value>(&text) else { continue };
        for call in calls["calls"].as_array().into_iter().flatten().filter(|call| call["state"] == "answered") {
            let of = |number: &usize| call["caller"] == format!("+1415555010{number}");
            let Some(number) = (0..CARDS.len()).find(of).filter(|number| !keyed[*number]) else { continue };
            let path = format!("/v1/calls/{}/holds", call["id"].as_str().unwrap_or_default());
            let hold = "{\"kind\": \"mask\", \"reason\": \"card\", \"ttl_s\": 60}";
            let Some((201, _)) = ask("POST", &path, 0, hold) else { continue };
            let form = [Form::Tone, Form::Event][number];
            callers[number].with(|phone, _| phone.press(20, typed(CARDS[number], form, 60, 50)));
            keyed[number] = true;
            told.keyed += 1;
        }
    }
    told
}

fn sealed_files(root: &Path) -> Vec<PathBuf> {
    let days = fs::read_dir(root).expect("the recordings").map(|day| day.expect("an entry").path());
    let files = days.filter(|day| day.is_dir()).flat_map(|day| fs::read_dir(day).expect("a day"));
    files.map(|file| file.expect("an entry").path()).filter(|file| place::recording_of(file).is_some()).collect()
}
