//! A payment call on this machine, for `tonewall demo`: a real node, and around it a carrier, a PBX, a caller and an
//! agent, all over loopback UDP. The story so far goes out line by line; at the end comes what everyone sent and heard,
//! for attackers to work on. Nothing leaves the machine, and no digit leaves this module but as sound and packets.

mod live;

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng, TryRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use zeroize::Zeroizing;

use live::Live;

use super::node::{Node, Options, StartError};
use super::peers::{Exchange, Phone};
use crate::base::Random;
use crate::base::ids::CallId;
use crate::capture::{Handover, Recipient};
use crate::config::{KekRef, MaskKind, RecordingPolicy, Role};
use crate::obs::event::{EventKind, RecordingState};
use crate::record::keys::{Kek, KeyError, KeyRing};
use crate::rt::keys::Keys;
use crate::testkit::keys::{Form, Sent, typed};
use crate::testkit::rtp_peer::{hiss, voice};
use crate::testkit::site::{Key, Site};
use crate::testkit::ua::{Answer, Event, Profile, UserAgent};
use crate::web::{Phase, Verdict};

/// A test card published by payment providers.
const CARD: &str = "4242424242424242";
/// How many of its digits are keyed as tones; the rest as events.
const TONES: usize = 8;
/// Key-down time and pause of a calm caller, in ms.
const PRESS: (u32, u32) = (150, 250);
/// Media ports of the demo's node: four per call, and calls one after the other.
const MEDIA_PORTS: u16 = 40;
/// Stretches of ports tried before giving up.
const MEDIA_TRIES: usize = 50;
/// How long anything that should happen at once may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A line of the story.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// Something worth knowing before the story begins.
    Fact(&'static str, String),
    /// What happens, with the time since the call began.
    Step(Duration, String),
    /// How many of so many keys have been collected.
    Progress(u32, u32),
}

/// What went wrong with the demo itself.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A file or socket of the demo.
    #[error("{0}: {1}")]
    Io(&'static str, io::Error),
    /// The node did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The key for recordings.
    #[error("the recording key: {0}")]
    Key(#[from] KeyError),
    /// The API gave another answer than it should.
    #[error("{0}: the API answered {1}")]
    Api(&'static str, String),
    /// The call was not put through.
    #[error("the call was refused with status {0}")]
    Refused(u16),
    /// Something that should have happened did not.
    #[error("{0} did not happen in time")]
    Missing(&'static str),
}

/// What was collected, told without the digits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Collected {
    /// How many digits.
    pub count: usize,
    /// Whether they pass the Luhn check.
    pub luhn: bool,
    /// Whether they are the ones keyed, each once and in order.
    pub same: bool,
}

/// What everyone sent and heard.
pub struct Played {
    /// The customer's sound as sent.
    pub spoken: Vec<i16>,
    /// The keys with their places in it.
    pub keyed: Vec<Sent>,
    /// What the agent heard.
    pub heard: Vec<i16>,
    /// RFC 4733 events and SIP INFO requests that reached the agent.
    pub agent_events: usize,
    /// SIP messages and events of the API that hold the card number.
    pub texts_with_card: usize,
    /// SIP messages and API events looked through.
    pub texts: usize,
    /// What was collected.
    pub collected: Collected,
    /// The card as it may be shown.
    pub masked_card: String,
}

/// The demo, set up.
pub struct Demo {
    node: Node,
    office: Exchange,
    carrier: Exchange,
    control: SocketAddr,
    key: String,
    /// Private directory of everything the demo writes.
    pub dir: PathBuf,
    /// Opens the recordings.
    pub ring: KeyRing,
    collected: mpsc::UnboundedReceiver<Collected>,
    live: Live,
}

/// Compares and forgets the digits.
struct Till(mpsc::UnboundedSender<Collected>);

impl Recipient for Till {
    fn receive(&mut self, handover: Handover) {
        let digits = &handover.digits;
        let same = digits.expose() == CARD.as_bytes();
        let _ = self.0.send(Collected { count: digits.len(), luhn: digits.luhn(), same });
    }
}

impl Demo {
    /// Opens sockets, makes a private directory and a fresh key, and starts the node. `port` 0 takes any for HTTP.
    pub async fn start(port: u16) -> Result<Demo, Failure> {
        let mut seed = [0u8; 32];
        rand::rngs::SysRng
            .try_fill_bytes(&mut seed)
            .map_err(|error| Failure::Io("a random seed", io::Error::other(error.to_string())))?;
        let mut random = Random::from_seed(seed);
        let dir = private_dir(&mut random).map_err(|e| Failure::Io("the demo's directory", e))?;
        let kek = Zeroizing::new(hex::encode(random.random::<[u8; 32]>()));
        let kek_file = dir.join("kek.hex");
        private_file(&kek_file, kek.as_bytes()).map_err(|e| Failure::Io("the key file", e))?;

        let ip = IpAddr::from(Ipv4Addr::LOCALHOST);
        let open = |e| Failure::Io("a SIP port", e);
        let answering = Profile::new("5551000").answering(Answer::After(1_200));
        let office = Exchange::open(ip, 0, Some(answering), random.random()).await.map_err(open)?;
        let carrier = Exchange::open(ip, 0, None, random.random()).await.map_err(open)?;

        let any = SocketAddr::new(ip, 0);
        let key = format!("demo-{}", hex::encode(random.random::<[u8; 12]>()));
        let site = Site::new(any, carrier.address(), any, office.address()).carriers(|c| {
            c.mask = MaskKind::Tone;
            c.recording = RecordingPolicy::Required;
        });
        let control = (
            SocketAddr::new(ip, port),
            vec![Key { name: "demo".to_owned(), role: Role::Supervisor, text: key.clone() }],
        );
        let site = Site {
            control: Some(control),
            recordings: dir.join("recordings"),
            ports: media_range(&mut random).map_err(|e| Failure::Io("media ports", e))?,
            kek: Some(KekRef::file("demo", kek_file)),
            ..site
        };
        let ring = || -> Result<KeyRing, KeyError> { KeyRing::new(Some(Kek::parse("demo", &kek)?), Vec::new()) };
        let (till, collected) = mpsc::unbounded_channel();
        let live = Live::new();
        let (recipient, demo) = (Box::new(Till(till)), Some(live.source()));
        let keys = Keys::fixed(ring()?);
        let node = Node::start(Options { config: site.config(), keys, recipient, demo }).await?;
        live.set_history(node.events().clone());
        let control = node.control().unwrap_or(SocketAddr::new(ip, port));
        Ok(Demo { node, office, carrier, control, key, dir, ring: ring()?, collected, live })
    }

    /// What to know before the story begins.
    pub fn facts(&self) -> Vec<Told> {
        let [outside, inside] = [self.node.listeners().first(), self.node.listeners().last()]
            .map(|a| a.map(ToString::to_string).unwrap_or_default());
        vec![
            Told::Fact("live page", self.page()),
            Told::Fact("API key", self.key.clone()),
            Told::Fact("carrier", format!("{} ──► Tonewall {outside}", self.carrier.address())),
            Told::Fact("PBX", format!("{} ◄── Tonewall {inside}", self.office.address())),
            Told::Fact("files", self.dir.display().to_string()),
        ]
    }

    /// Address of the live page.
    pub fn page(&self) -> String {
        format!("http://{}/#key={}", self.control, self.key)
    }

    /// Leaves the viewer time to open the page before the call begins.
    pub async fn hold_back(&self, time: Duration) {
        sleep(time).await;
    }

    /// Plays one call from ringing to the sealed recording.
    pub async fn play(&mut self, tell: &mut dyn FnMut(Told)) -> Result<Played, Failure> {
        let began = Instant::now();
        let live = self.live.clone();
        let step = |tell: &mut dyn FnMut(Told), phase, text: &str| {
            live.step(phase, text);
            tell(Told::Step(began.elapsed(), text.to_owned()));
        };
        let caller = self.carrier.phone(Profile::new("+15550100")).map_err(|e| Failure::Io("RTP ports", e))?;
        self.live.begin(&caller);
        let target = self.node.listeners()[0];
        caller.with(|a, now| {
            a.rtp.speak(voice(11, -22.0));
            a.invite(now, "5551000", target);
        });
        let agent = self.office.ringing(PATIENCE).await.ok_or(Failure::Missing("ringing at the PBX"))?;
        agent.with(|a, _| a.rtp.speak(voice(27, -22.0)));
        self.live.set_agent(&agent);
        step(tell, Phase::Starting, "A customer calls; Tonewall passes the call on and the agent's telephone rings.");
        up(&caller).await?;
        step(
            tell,
            Phase::Talking,
            "Answered. Both talk. Tonewall relays their speech untouched and records it, sealed.",
        );
        sleep(Duration::from_millis(4_000)).await;

        let call = self.call().await?;
        self.live.set_call(call);
        step(
            tell,
            Phase::Talking,
            "Time to pay: the agent's CRM asks the API to collect 16 digits. Mask on, recording paused.",
        );
        let path = format!("/v1/calls/{call}/collections");
        self.api("starting a collection", "POST", &path, Some(r#"{"length":16}"#), 201).await?;
        sleep(Duration::from_millis(300)).await;

        // A caller who keys does not speak, and the agent waits.
        caller.with(|a, _| a.rtp.speak(hiss(5, -52.0)));
        agent.with(|a, _| a.rtp.speak(hiss(6, -52.0)));
        sleep(Duration::from_millis(1_000)).await;
        step(tell, Phase::Keying, "The customer keys the card: the first eight digits as tones …");
        self.key(&caller, &CARD[..TONES], Form::Tone, call, tell).await?;
        step(tell, Phase::Keying, "… and the other eight as RFC 4733 events.");
        self.key(&caller, &CARD[TONES..], Form::Event, call, tell).await?;
        let collected = timeout(PATIENCE, self.collected.recv()).await.ok().flatten();
        let collected = collected.ok_or(Failure::Missing("the end of the collection"))?;
        step(
            tell,
            Phase::Talking,
            "All digits are in, handed over and wiped. The mask comes off, the recording goes on.",
        );
        sleep(Duration::from_millis(1_200)).await;

        caller.with(|a, _| a.rtp.speak(voice(12, -22.0)));
        agent.with(|a, _| a.rtp.speak(voice(28, -22.0)));
        step(tell, Phase::Talking, "They talk on, heard and recorded as before.");
        sleep(Duration::from_millis(3_500)).await;
        let (spoken, keyed) = caller.with(|a, _| (a.rtp.spoken().to_vec(), a.rtp.keyed().to_vec()));
        caller.with(UserAgent::hang_up);
        if !agent.until(PATIENCE, UserAgent::is_ended).await {
            return Err(Failure::Missing("the end of the call"));
        }
        self.sealed(call).await?;
        step(tell, Phase::Checking, "The customer hangs up. The recording is closed and sealed.");
        Ok(self.played(call, &agent, spoken, keyed, collected))
    }

    /// Shows the verdict on the page.
    pub fn conclude(&self, verdict: Verdict) {
        self.live.conclude(verdict);
    }

    /// Ends the node.
    pub async fn end(mut self) {
        self.node.stop_now();
        self.node.ended().await;
    }

    fn played(&self, call: CallId, agent: &Phone, spoken: Vec<i16>, keyed: Vec<Sent>, collected: Collected) -> Played {
        let mut texts: Vec<Vec<u8>> = agent.with(|a, _| a.received().to_vec());
        texts.extend(self.node.events().of_call(call).iter().filter_map(|e| serde_json::to_vec(e.as_ref()).ok()));
        let holds = |text: &&Vec<u8>| text.windows(CARD.len()).any(|w| w == CARD.as_bytes());
        let (heard, agent_events) =
            agent.with(|a, _| (a.rtp.heard.samples(), a.rtp.heard.event_codes().len() + a.infos().len()));
        Played {
            spoken,
            keyed,
            heard,
            agent_events,
            texts_with_card: texts.iter().filter(holds).count(),
            texts: texts.len(),
            collected,
            masked_card: format!("•••• •••• •••• {}", &CARD[CARD.len() - 4..]),
        }
    }

    /// Keys `digits` and tells how many have been collected until all of them are.
    async fn key(
        &self,
        caller: &Phone,
        digits: &str,
        form: Form,
        call: CallId,
        tell: &mut dyn FnMut(Told),
    ) -> Result<(), Failure> {
        let before = self.collected_so_far(call);
        caller.with(|a, _| a.press(100, typed(digits, form, PRESS.0, PRESS.1)));
        let deadline = Instant::now() + PATIENCE;
        let mut told = before;
        while told < before + digits.len() as u32 {
            if Instant::now() >= deadline {
                return Err(Failure::Missing("collecting every digit"));
            }
            sleep(Duration::from_millis(30)).await;
            let now = self.collected_so_far(call);
            if now != told {
                told = now;
                tell(Told::Progress(told, CARD.len() as u32));
            }
        }
        sleep(Duration::from_millis(u64::from(PRESS.1) * 2)).await;
        Ok(())
    }

    fn collected_so_far(&self, call: CallId) -> u32 {
        let events = self.node.events().of_call(call);
        let newest = events.iter().rev().find_map(|event| match event.kind {
            EventKind::CollectionProgress { received, .. } => Some(received),
            EventKind::CollectionEnded { count, .. } => Some(count),
            _ => None,
        });
        newest.unwrap_or(0)
    }

    /// Waits until the call's recording is closed.
    async fn sealed(&self, call: CallId) -> Result<(), Failure> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let events = self.node.events().of_call(call);
            let recording = events.iter().find_map(|event| match &event.kind {
                EventKind::Recording { recording, state: RecordingState::Closed } => Some(*recording),
                _ => None,
            });
            // Closed, and its self-audit is over: before that nobody gets it.
            let catalogue = self.node.catalogue();
            let entry = recording.and_then(|recording| catalogue?.get(recording).ok().flatten());
            if entry.is_some_and(|entry| entry.state.is_over()) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(Failure::Missing("sealing the recording"));
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// The id of the one call there is, by the API.
    async fn call(&self) -> Result<CallId, Failure> {
        const WHAT: &str = "looking for the call";
        let body = self.api(WHAT, "GET", "/v1/calls", None, 200).await?;
        let answer: serde_json::Value =
            serde_json::from_str(&body).map_err(|error| Failure::Api(WHAT, error.to_string()))?;
        let calls = answer.as_array().or_else(|| answer.get("calls").and_then(|c| c.as_array()));
        let newest = calls.and_then(|c| c.last()).and_then(|c| c.get("id")).and_then(|id| id.as_str());
        newest.and_then(|id| id.parse().ok()).ok_or(Failure::Missing("the call in the API's list"))
    }

    /// One HTTP request to the node, as a CRM makes it; gives the body.
    async fn api(
        &self,
        what: &'static str,
        method: &str,
        path: &str,
        body: Option<&str>,
        wanted: u16,
    ) -> Result<String, Failure> {
        let text = body.unwrap_or_default();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{text}",
            self.control,
            self.key,
            text.len()
        );
        let exchange = async {
            let mut stream = TcpStream::connect(self.control).await?;
            stream.write_all(request.as_bytes()).await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            Ok::<_, io::Error>(answer)
        };
        let answer = timeout(PATIENCE, exchange).await.map_err(|_| Failure::Missing(what))?;
        let answer = answer.map_err(|e| Failure::Io(what, e))?;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let status = head.split(' ').nth(1).and_then(|s| s.parse::<u16>().ok());
        if status == Some(wanted) {
            Ok(body.to_owned())
        } else {
            Err(Failure::Api(what, format!("{} {body}", head.lines().next().unwrap_or_default())))
        }
    }
}

async fn up(caller: &Phone) -> Result<(), Failure> {
    caller.until(PATIENCE, |phone| phone.is_up() || phone.is_ended()).await;
    let refused = caller.events().into_iter().find_map(|(_, event)| match event {
        Event::Rejected(status) => Some(status),
        _ => None,
    });
    match refused {
        Some(status) => Err(Failure::Refused(status)),
        None if caller.with(|phone, _| phone.is_up()) => Ok(()),
        None => Err(Failure::Missing("the answer")),
    }
}

/// A stretch of UDP ports that is free now, so that demos and nodes beside this one do not get in each other's way.
fn media_range(random: &mut Random) -> io::Result<(u16, u16)> {
    for _ in 0..MEDIA_TRIES {
        // Even, and below the ports the kernel gives away.
        let first = random.random_range(5_000..16_000 - MEDIA_PORTS / 2) * 2;
        let last = first + MEDIA_PORTS - 1;
        let free = |port| std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
        if (first..=last).all(free) {
            return Ok((first, last));
        }
    }
    Err(io::Error::new(io::ErrorKind::AddrInUse, "no free stretch of UDP ports was found"))
}

/// A new directory only its owner may enter.
fn private_dir(random: &mut Random) -> io::Result<PathBuf> {
    let dir = std::env::temp_dir().join(format!("tonewall-demo-{}", hex::encode(random.random::<[u8; 6]>())));
    DirBuilder::new().mode(0o700).create(&dir)?;
    Ok(dir)
}

fn private_file(path: &Path, content: &[u8]) -> io::Result<()> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(content)
}
