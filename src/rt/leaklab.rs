//! Calls through a real node for the leak's laboratory: a carrier, a PBX and telephones around it on loopback UDP, many
//! calls at once, and afterwards everything that anybody got of each. Cases go in, evidence comes out; it judges nothing.
//! `tonewall bench leak` and `tests/leak.rs` play here.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng, TryRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::logging;
use super::node::{Node, Options, StartError};
use super::peers::{Exchange, Phone};
use crate::base::Random;
use crate::base::ids::{CallId, RecordingId};
use crate::base::secret::Digit;
use crate::call::{Actor, Find, Reply, Signal};
use crate::capture::{Handover, Recipient};
use crate::config::{Codec, GuardMode, KekRef, RecordingPolicy, Role};
use crate::control::Calls as _;
use crate::control::history::{Read, Reader};
use crate::obs::event::{Event, EventKind, RecordingState};
use crate::record::keys::{Kek, KeyRing};
use crate::record::place::recording_of;
use crate::record::sealed::{Item, verify};
use crate::rt::keys::Keys;
use crate::testkit::keys::Sent;
use crate::testkit::lab::leak::cases::{Case, MASKS};
use crate::testkit::lab::leak::evidence::{Evidence, RUN, holds_run, info_key};
use crate::testkit::lab::leak::moments::{Course, Shapes, length_ms, place, schedule};
use crate::testkit::rtp_peer::hiss;
use crate::testkit::site::{Key, Site};
use crate::testkit::ua::{Answer, Profile, UserAgent};

/// How long anything that should happen at once may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// From the answer to the first key: the attackers need sound to align with, the guard to know the line.
const BEFORE_KEYS_MS: u32 = 1_500;
/// Calls that are being set up at once.
const SETTING_UP: usize = 8;
/// Media ports are looked for from here to …
const FIRST_PORT: u16 = 10_000;
/// … here, below those the kernel gives away.
const LAST_PORT: u16 = 32_000;

/// What went wrong with the laboratory itself.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A file or socket.
    #[error("{0}: {1}")]
    Io(&'static str, io::Error),
    /// The node did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Something that should have happened did not.
    #[error("{0} did not happen in time")]
    Missing(&'static str),
}

/// The clock, for calls in virtual time, which need a time to begin at.
pub fn now() -> Instant {
    Instant::now()
}

/// Keeps what collections hand over, to compare.
#[derive(Clone, Default)]
struct Till(Arc<Mutex<HashMap<CallId, Vec<u8>>>>);

impl Recipient for Till {
    fn receive(&mut self, handover: Handover) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.entry(handover.call).or_default().extend_from_slice(handover.digits.expose());
    }
}

/// Every event of the node with its time, since a node keeps only the newest.
#[derive(Clone, Default)]
struct Events(Arc<Mutex<Told>>);

type Told = Vec<(Instant, Arc<Event>)>;

impl Events {
    async fn listen(self, mut reader: Reader) {
        while let Some(read) = reader.next().await {
            if let Read::Event(_, event) = read {
                self.all().push((Instant::now(), event));
            }
        }
    }

    fn all(&self) -> MutexGuard<'_, Told> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn recording_of(&self, call: CallId) -> Option<RecordingId> {
        self.all().iter().rev().find_map(|(_, event)| match event.kind {
            EventKind::Recording { recording, state: RecordingState::Closed } if event.call == Some(call) => {
                Some(recording)
            }
            _ => None,
        })
    }
}

/// How sealed files grow: when, and by how many bytes.
#[derive(Clone, Default)]
struct Growth(Arc<Mutex<Files>>);

/// The size last seen and the steps to it, by recording.
type Files = HashMap<RecordingId, (u64, Vec<(Instant, usize)>)>;

impl Growth {
    /// Looks at every file each 10 ms, until aborted.
    async fn watch(self, root: PathBuf) {
        loop {
            let mut files = Vec::new();
            list(&root, &mut files);
            let now = Instant::now();
            for (recording, path) in files {
                let Ok(size) = std::fs::metadata(&path).map(|about| about.len()) else { continue };
                let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                let (before, grown) = all.entry(recording).or_default();
                if size > *before {
                    grown.push((now, (size - *before) as usize));
                    *before = size;
                }
            }
            sleep(Duration::from_millis(10)).await;
        }
    }

    fn of(&self, recording: RecordingId) -> Vec<(Instant, usize)> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(&recording).map(|(_, grown)| grown.clone()).unwrap_or_default()
    }
}

/// A directory that goes with its owner.
struct Private(PathBuf);

impl Private {
    fn new(random: &mut Random) -> io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt;
        let path = std::env::temp_dir().join(format!("tonewall-leak-{}", hex::encode(random.random::<[u8; 6]>())));
        std::fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A node with its peers, and everything it lets out.
pub struct Office {
    node: Node,
    pbx: Exchange,
    carrier: Exchange,
    till: Till,
    events: Events,
    listener: JoinHandle<()>,
    metrics_key: String,
    kek: String,
    dir: Private,
}

impl Drop for Office {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

/// A call that is up.
struct Call<'a> {
    case: &'a Case,
    caller: Phone,
    agent: Phone,
    id: CallId,
}

/// What a node printed of itself while cases were played.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Texts {
    /// Bytes looked through: log lines, metrics, events.
    pub bytes: usize,
    /// Bytes of log lines among them.
    pub logged: usize,
    /// Texts that hold a run of keyed digits.
    pub told: usize,
}

impl std::ops::AddAssign for Texts {
    fn add_assign(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.logged += other.logged;
        self.told += other.told;
    }
}

impl Office {
    /// Starts a node for up to `calls` calls: a carrier trunk per mask with the guard always on, one with it off.
    ///
    /// # Errors
    /// No sockets, no directory, or no media ports.
    pub async fn open(calls: usize, codecs: &[Codec]) -> Result<Self, Failure> {
        let mut seed = [0u8; 32];
        let os = |e: rand::rngs::SysError| Failure::Io("a random seed", io::Error::other(e.to_string()));
        rand::rngs::SysRng.try_fill_bytes(&mut seed).map_err(os)?;
        let mut random = Random::from_seed(seed);
        let dir = Private::new(&mut random).map_err(|e| Failure::Io("a directory", e))?;
        let kek = hex::encode(random.random::<[u8; 32]>());
        let metrics_key = hex::encode(random.random::<[u8; 16]>());
        let ip = IpAddr::from(Ipv4Addr::LOCALHOST);
        let any = SocketAddr::new(ip, 0);
        let port = |e| Failure::Io("a SIP port", e);
        let pbx = Exchange::open(ip, 0, Some(Profile::new("5551000")), random.random()).await.map_err(port)?;
        let carrier = Exchange::open(ip, 0, None, random.random()).await.map_err(port)?;
        let mut site = Site::new(any, carrier.address(), any, pbx.address());
        let trunk = site.carriers[0].clone();
        site.carriers = MASKS
            .into_iter()
            .map(|mask| (format!("{mask:?}"), mask, GuardMode::Always))
            .chain([("control".to_owned(), MASKS[0], GuardMode::Off)])
            .map(|(name, mask, guard)| {
                let mut trunk = trunk.clone();
                trunk.name = format!("carrier-{name}").to_lowercase();
                (trunk.mask, trunk.guard, trunk.recording) = (mask, guard, RecordingPolicy::Required);
                trunk.codecs = codecs.to_vec();
                trunk
            })
            .collect();
        site.pbx_codecs = codecs.to_vec();
        site.ports = media_range(calls, &mut random).map_err(|e| Failure::Io("media ports", e))?;
        site.recordings = dir.0.join("recordings");
        site.kek = Some(KekRef::file("lab", dir.0.join("unused")));
        let key = Key { name: "lab".to_owned(), role: Role::Admin, text: metrics_key.clone() };
        site.control = Some((any, vec![key]));
        let till = Till::default();
        let keys = Keys::fixed(ring(&kek));
        let options = Options { config: site.config(), keys, recipient: Box::new(till.clone()), demo: None };
        let node = Node::start(options).await?;
        let events = Events::default();
        let listener = tokio::spawn(events.clone().listen(node.events().read(None, None)));
        Ok(Self { node, pbx, carrier, till, events, listener, metrics_key, kek, dir })
    }

    /// Plays the cases all at once, from call to sealed recording. `tell` is told how many keys have been pressed.
    ///
    /// # Errors
    /// A call did not come up, or did not end as it should.
    pub async fn play<'a>(
        &mut self,
        cases: &'a [Case],
        tell: &mut dyn FnMut(usize),
    ) -> Result<Vec<(&'a Case, Evidence)>, Failure> {
        let mut calls: Vec<Call<'a>> = Vec::with_capacity(cases.len());
        for some in cases.chunks(SETTING_UP) {
            for case in some {
                calls.push(self.call(case).await?);
            }
        }
        for call in calls.iter().filter(|call| call.case.collecting) {
            let request = call.case.collection();
            self.ask(Signal::StartCollection { call: call.id, request, actor: crm() }).await?;
        }
        for call in &calls {
            call.caller.with(|a, _| a.press(BEFORE_KEYS_MS, call.case.presses()));
        }
        let until = Instant::now() + PATIENCE + PATIENCE;
        loop {
            let keyed: usize = calls.iter().map(|call| call.caller.with(|a, _| a.rtp.keyed().len())).sum();
            tell(keyed);
            if calls.iter().all(|call| call.caller.with(|a, _| !a.rtp.is_keying())) {
                break;
            }
            if Instant::now() > until {
                return Err(Failure::Missing("the last key"));
            }
            sleep(Duration::from_millis(250)).await;
        }
        // Late events, INFO and reports; then the last of the sound.
        sleep(Duration::from_millis(1_500)).await;
        if let Some(pound) = Digit::from_char('#') {
            for call in calls.iter().filter(|call| call.case.collecting) {
                call.caller.with(|a, now| a.info(now, &pound, 100));
            }
        }
        sleep(Duration::from_millis(1_500)).await;
        let mut played = Vec::with_capacity(calls.len());
        for call in &calls {
            call.caller.with(UserAgent::hang_up);
        }
        for call in calls {
            let evidence = self.evidence(&call).await?;
            played.push((call.case, evidence));
        }
        Ok(played)
    }

    async fn call<'a>(&mut self, case: &'a Case) -> Result<Call<'a>, Failure> {
        let (caller, agent, id) = self.connect(case).await?;
        Ok(Call { case, caller, agent, id })
    }

    async fn connect(&mut self, case: &Case) -> Result<(Phone, Phone, CallId), Failure> {
        self.pbx.answer_with(case.profile("5551000").answering(Answer::After(1)));
        let caller = self.carrier.phone(case.caller()).map_err(|e| Failure::Io("RTP ports", e))?;
        let mask = MASKS.iter().position(|mask| *mask == case.mask).unwrap_or(0);
        let target = self.node.listeners()[if case.guarded { mask } else { MASKS.len() }];
        caller.with(|a, now| {
            a.rtp.set_line(case.line.conditions(), case.line_random());
            a.rtp.send_redundant(case.way.is_redundant());
            a.rtp.speak(case.sound());
            a.invite(now, "5551000", target);
        });
        let agent = self.pbx.ringing(PATIENCE).await.ok_or(Failure::Missing("ringing at the PBX"))?;
        agent.with(|a, _| a.rtp.speak(hiss(case.seed ^ 9, -45.0)));
        if !caller.until(PATIENCE, UserAgent::is_up).await {
            return Err(Failure::Missing("the answer"));
        }
        let sip_call_id = agent.with(|a, _| a.call_id().map(str::to_owned));
        let find = Find { sip_call_id, ..Find::default() };
        let Reply::Calls(found) = self.ask(Signal::Find { find, limit: 1 }).await? else {
            return Err(Failure::Missing("the call"));
        };
        let id = found.first().map(|call| call.id).ok_or(Failure::Missing("the call"))?;
        Ok((caller, agent, id))
    }

    /// Plays a call of each course all at once and gives the shapes of what the agent's side and the disk got of it.
    ///
    /// # Errors
    /// A call did not come up, or did not end as it should.
    pub async fn shapes(&mut self, courses: &[Course], seed: u64) -> Result<Vec<Shapes>, Failure> {
        let mut random = Random::seed_from_u64(seed);
        let mut calls = Vec::new();
        for course in courses {
            let case = Case::plain(course.mask, course.guard != GuardMode::Off, random.random());
            calls.push((self.connect(&case).await?, *course));
        }
        let growth = Growth::default();
        let watch = tokio::spawn(growth.clone().watch(self.dir.0.join("recordings")));
        let mut placed = Vec::new();
        for ((caller, ..), course) in &calls {
            let moments = schedule(course.form, course.stretches, &mut random);
            placed.push(caller.with(|a, _| {
                let position = a.rtp.position();
                for (at, press) in &moments {
                    if let Some(press) = press {
                        a.press(*at, [press.clone()]);
                    }
                }
                place(&moments, position)
            }));
        }
        let stretches = courses.iter().map(|course| course.stretches).max().unwrap_or(0);
        sleep(Duration::from_millis(length_ms(stretches) + 1_500)).await;
        watch.abort();
        let mut shapes = Vec::new();
        for (n, (((caller, agent, id), _), moments)) in calls.iter().zip(&placed).enumerate() {
            let began = caller.with(|a, now| a.rtp.started().unwrap_or(now));
            caller.with(UserAgent::hang_up);
            let heard = agent.with(|a, _| std::mem::take(&mut a.rtp.heard));
            let since = |at: Instant| at.saturating_duration_since(began).as_secs_f64() * 1e3;
            let blocks: Vec<(f64, usize, bool)> = self
                .recording(*id)
                .map(|recording| growth.of(recording))
                .unwrap_or_default()
                .into_iter()
                .map(|(at, bytes)| (since(at), bytes, false))
                .collect();
            let told: Vec<f64> = self.masked(*id).into_iter().map(since).collect();
            shapes.push(Shapes::of(n as u32, &heard, began, &blocks, &told, moments));
        }
        Ok(shapes)
    }

    /// The recording of a call, open or closed.
    fn recording(&self, call: CallId) -> Option<RecordingId> {
        self.events.all().iter().find_map(|(_, event)| match event.kind {
            EventKind::Recording { recording, .. } if event.call == Some(call) => Some(recording),
            _ => None,
        })
    }

    fn masked(&self, call: CallId) -> Vec<Instant> {
        let all = self.events.all();
        let of = all.iter().filter(|(_, event)| event.call == Some(call));
        of.filter(|(_, event)| matches!(event.kind, EventKind::KeyMasked { .. })).map(|(at, _)| *at).collect()
    }

    async fn ask(&self, signal: Signal) -> Result<Reply, Failure> {
        self.node.calls().signal(signal).await.map_err(|_| Failure::Missing("an answer of the node"))
    }

    async fn evidence(&self, call: &Call<'_>) -> Result<Evidence, Failure> {
        let until = Instant::now() + PATIENCE;
        let recording = loop {
            if let Some(recording) = self.events.recording_of(call.id) {
                break recording;
            }
            if Instant::now() > until {
                return Err(Failure::Missing("sealing the recording"));
            }
            sleep(Duration::from_millis(20)).await;
        };
        // A collection pauses the recording: only its end and begin could be heard.
        let tape = if call.case.collecting {
            None
        } else {
            let root = self.dir.0.join("recordings");
            Some(export(&root, recording, &self.kek).map_err(|e| Failure::Io("the recording", e))?)
        };
        let (spoken, keyed, lost, began, held_up) = call.caller.with(|a, now| {
            let rtp = &a.rtp;
            let began = rtp.started().unwrap_or(now);
            (rtp.spoken().to_vec(), rtp.keyed().to_vec(), rtp.lost().to_vec(), began, rtp.held_up())
        });
        let (agent, infos, sip) = call.agent.with(|a, _| {
            let infos = a.infos().iter().map(|info| info_key(&info.body)).collect();
            (std::mem::take(&mut a.rtp.heard), infos, a.received().to_vec())
        });
        let (masked, mut texts) = (self.masked(call.id), sip);
        for (_, event) in self.events.all().iter().filter(|(_, event)| event.call == Some(call.id)) {
            texts.extend(serde_json::to_vec(event.as_ref()).ok());
        }
        let collected = call.case.collecting.then(|| {
            let kept = self.till.0.lock().unwrap_or_else(PoisonError::into_inner);
            kept.get(&call.id).cloned().unwrap_or_default()
        });
        let told = texts.iter().filter(|text| holds_run(text, &keyed)).count();
        Ok(Evidence { spoken, keyed, lost, began, held_up, agent, infos, tape, collected, masked, told })
    }

    /// Ends the node and looks through what it printed: metrics, and the log lines of the process since `log` began.
    ///
    /// # Errors
    /// The metrics could not be read.
    pub async fn end(mut self, log: &logging::Captured, played: &[&[Sent]]) -> Result<Texts, Failure> {
        let metrics = self.metrics().await.map_err(|e| Failure::Io("the metrics", e))?;
        self.node.stop_now();
        self.node.ended().await;
        let printed = log.take();
        let events: Vec<u8> =
            self.events.all().iter().filter_map(|(_, e)| serde_json::to_vec(e.as_ref()).ok()).flatten().collect();
        let logged = printed.len();
        let texts = [metrics, printed, events];
        // All calls at once make many runs: two keys longer ones than within one call.
        let told = texts.iter().filter(|text| holds_any(text, played)).count();
        Ok(Texts { bytes: texts.iter().map(Vec::len).sum(), logged, told })
    }

    async fn metrics(&self) -> io::Result<Vec<u8>> {
        let control = self.node.control().ok_or(io::ErrorKind::NotConnected)?;
        let mut stream = tokio::net::TcpStream::connect(control).await?;
        let request = format!(
            "GET /metrics HTTP/1.1\r\nHost: {control}\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\r\n",
            self.metrics_key
        );
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        if !answer.starts_with(b"HTTP/1.1 200") {
            return Err(io::Error::other("not 200"));
        }
        Ok(answer)
    }
}

/// Whether `text` holds a run of [`RUN`] + 2 digits of any call: only runs of digits in it are looked at.
fn holds_any(text: &[u8], played: &[&[Sent]]) -> bool {
    let mut runs: std::collections::HashSet<Vec<u8>> = std::collections::HashSet::new();
    for keyed in played {
        let keys: Vec<u8> = keyed.iter().map(|k| k.press.digit.expose_char() as u8).collect();
        runs.extend(keys.windows(RUN + 2).map(<[u8]>::to_vec));
    }
    text.windows(RUN + 2).any(|run| run.iter().all(u8::is_ascii_digit) && runs.contains(run))
}

fn crm() -> Actor {
    Actor::new("crm", Role::Integration)
}

fn ring(kek: &str) -> KeyRing {
    let kek = Kek::parse("lab", kek).ok();
    KeyRing::new(kek, Vec::new()).unwrap_or_default()
}

/// Customer and agent side of a sealed recording.
fn export(root: &Path, recording: RecordingId, kek: &str) -> io::Result<[Vec<i16>; 2]> {
    let path = find(root, recording).ok_or(io::ErrorKind::NotFound)?;
    let mut sides = [Vec::new(), Vec::new()];
    let mut take = |item: &Item<'_>| {
        if let Item::Audio(bytes) = item {
            for frame in bytes.as_chunks::<4>().0 {
                sides[0].push(i16::from_le_bytes([frame[0], frame[1]]));
                sides[1].push(i16::from_le_bytes([frame[2], frame[3]]));
            }
        }
        Ok(())
    };
    let input = BufReader::new(File::open(path)?);
    verify(input, None, Some(recording), &ring(kek), &mut take).map_err(|e| io::Error::other(e.to_string()))?;
    Ok(sides)
}

fn find(dir: &Path, recording: RecordingId) -> Option<PathBuf> {
    let mut files = Vec::new();
    list(dir, &mut files);
    files.into_iter().find(|(of, _)| *of == recording).map(|(_, path)| path)
}

/// Every sealed file under `dir`.
fn list(dir: &Path, files: &mut Vec<(RecordingId, PathBuf)>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            list(&path, files);
        } else if let Some(recording) = recording_of(&path) {
            files.push((recording, path));
        }
    }
}

/// A stretch of free UDP ports for so many calls, four each and some to spare.
fn media_range(calls: usize, random: &mut Random) -> io::Result<(u16, u16)> {
    let wanted = (calls * 4 + 16).min(usize::from(LAST_PORT - FIRST_PORT) - 2) as u16;
    for _ in 0..50 {
        let first = random.random_range(FIRST_PORT / 2..(LAST_PORT - wanted) / 2) * 2;
        let free = |port| std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
        if (first..first + wanted).all(free) {
            return Ok((first, first + wanted - 1));
        }
    }
    Err(io::Error::new(io::ErrorKind::AddrInUse, "no free stretch of UDP ports was found"))
}
