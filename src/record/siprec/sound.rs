//! The sound of one recording session: masked stereo blocks become two streams of G.711 packets, 20 ms each, on real time.
//! Blocks, orders and the time go in; packets come out, and RTCP beside them. While it is cut nothing comes out and
//! nothing is kept; the timeline goes on, so that a recorder sees how long the gap was.
//!
//! ```text
//!  block (100 ms) ─► queue ─► 20 ms ─┬─► stream 1: customer   SSRC, sequence and timestamp of its own
//!                                    └─► stream 2: agent
//! ```

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng};

use super::sdp::Stream;
use crate::base::Random;
use crate::base::ids::Leg;
use crate::base::time::soonest;
use crate::guard::Masked;
use crate::media::{BLOCK_FRAMES, MaskedBlock};
use crate::rtp::Header;
use crate::rtp::rtcp::{self, CNAME_LEN, Cname, Compound, Sending};
use crate::srtp::Sender;

/// Packets of a block.
const PARTS: usize = 5;
/// Time of a packet.
pub const TICK: Duration = Duration::from_millis(20);
/// Frames of a packet.
const FRAMES: u32 = (BLOCK_FRAMES / PARTS) as u32;
/// Blocks kept while the recorder has not yet answered, or does not keep up.
const MOST: usize = 10;
/// The oldest sound a block can hold when it is given out, and some: the tap keeps 400 ms back.
const OLDEST: Duration = Duration::from_millis(600);
/// How often a report goes out.
const REPORT: Duration = Duration::from_secs(5);
/// Room for a packet and what encryption adds to it.
pub const ROOM: usize = 12 + FRAMES as usize + 48;

/// Where packets go: which stream, RTP or RTCP, and the bytes.
pub trait Sink {
    /// A packet of sound.
    fn rtp(&mut self, stream: usize, packet: Masked<&[u8]>);
    /// A report.
    fn rtcp(&mut self, stream: usize, report: &[u8]);
}

struct Voice {
    ssrc: u32,
    sequence: u16,
    /// Timestamp of the first frame there ever was.
    zero: u32,
    cname: Cname,
    packets: u32,
    octets: u32,
    sender: Option<Sender>,
}

/// The sound of one recording session.
pub struct Sound {
    began: Instant,
    voices: [Voice; 2],
    streams: Option<Box<[Stream; 2]>>,
    /// Blocks with their numbers.
    queue: VecDeque<(u64, MaskedBlock)>,
    /// Blocks given so far.
    given: u64,
    /// Packets of the front block that have gone.
    part: usize,
    /// What comes in is kept: until the first cut, and while sound flows.
    keep: bool,
    /// The next packet begins a stretch.
    marker: bool,
    deaf_until: Option<Instant>,
    /// What a cut finds waiting goes on after it: the sound is no live one.
    patient: bool,
    tick_at: Option<Instant>,
    report_at: Option<Instant>,
}

impl Sound {
    /// Nothing flows yet. `seed` draws SSRCs, sequence numbers, timestamps and names.
    pub fn new(now: Instant, seed: u64) -> Self {
        let mut random = Random::seed_from_u64(seed);
        let mut voice = || {
            let mut cname = [0; CNAME_LEN];
            let name = format!("{:024x}", random.random::<u128>() >> 32);
            cname.copy_from_slice(&name.as_bytes()[..CNAME_LEN]);
            Voice {
                ssrc: random.random(),
                sequence: random.random(),
                zero: random.random(),
                cname,
                packets: 0,
                octets: 0,
                sender: None,
            }
        };
        Self {
            began: now,
            voices: [voice(), voice()],
            streams: None,
            queue: VecDeque::with_capacity(MOST),
            given: 0,
            part: 0,
            keep: true,
            marker: true,
            deaf_until: None,
            patient: false,
            tick_at: None,
            report_at: None,
        }
    }

    /// The same for sound that is no live one: nothing of it is lost by a cut, it waits.
    pub fn patient(now: Instant, seed: u64) -> Self {
        Self { patient: true, ..Self::new(now, seed) }
    }

    /// Whether nothing waits to be sent.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether sound flows.
    pub fn is_flowing(&self) -> bool {
        self.streams.is_some()
    }

    /// Where the sound flows from now on; `None` cuts it. `hush`: there was a pause, so that what is still under way
    /// is left out.
    pub fn set(&mut self, now: Instant, streams: Option<Box<[Stream; 2]>>, hush: bool) {
        let Some(streams) = streams else {
            self.streams = None;
            self.tick_at = None;
            if !self.patient {
                self.keep = false;
                self.drop_queue();
            }
            return;
        };
        self.keep = true;
        let began = self.streams.is_none();
        if began {
            if hush {
                self.drop_queue();
                self.deaf_until = Some(now + OLDEST);
            }
            self.marker = true;
            self.tick_at = Some(now);
            self.report_at.get_or_insert(now + REPORT / 2);
        }
        for (voice, stream) in self.voices.iter_mut().zip(streams.iter()) {
            match &stream.srtp {
                None => voice.sender = None,
                Some((suite, key)) => match &mut voice.sender {
                    Some(sender) if sender.has(*suite, key) => {}
                    // A key that does not fit its suite sends nothing: never in the clear.
                    sender => *sender = Sender::new(*suite, key),
                },
            }
        }
        self.streams = Some(streams);
    }

    fn drop_queue(&mut self) {
        self.queue.clear();
        self.part = 0;
    }

    /// Takes the next 100 ms.
    pub fn block(&mut self, now: Instant, block: MaskedBlock) {
        let number = self.given;
        self.given += 1;
        let deaf = self.deaf_until.is_some_and(|until| now < until);
        if block.get().paused || deaf || !self.keep {
            self.marker = true;
            return;
        }
        self.deaf_until = None;
        // Sound that is no live one comes at its pace; what has piled up while the sender stood still is sent late, and sent.
        if self.queue.len() >= MOST && !self.patient {
            self.queue.pop_front();
            self.part = 0;
            self.marker = true;
        }
        // Whoever waited for sound goes on from now, not from when it was due.
        if self.queue.is_empty() {
            self.tick_at = self.tick_at.map(|at| at.max(now));
        }
        self.queue.push_back((number, block));
    }

    /// Sends what is due.
    pub fn handle_timeout(&mut self, now: Instant, sink: &mut impl Sink) {
        while let Some(at) = self.tick_at.filter(|at| *at <= now && !self.queue.is_empty()) {
            self.tick(sink);
            self.tick_at = Some(at + TICK);
        }
        if self.report_at.is_some_and(|at| at <= now) {
            self.report_at = Some(now + REPORT);
            self.report(now, false, sink);
        }
    }

    /// When [`Sound::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let tick = self.tick_at.filter(|_| !self.queue.is_empty());
        soonest(tick, self.report_at)
    }

    /// The last report of each stream, with BYE.
    pub fn finish(&mut self, now: Instant, sink: &mut impl Sink) {
        self.report(now, true, sink);
    }

    fn tick(&mut self, sink: &mut impl Sink) {
        let (Some(streams), Some((number, block))) = (&self.streams, self.queue.front()) else { return };
        let frames = (*number as u32).wrapping_mul(BLOCK_FRAMES as u32).wrapping_add(self.part as u32 * FRAMES);
        for (leg, (voice, stream)) in
            [Leg::Customer, Leg::Agent].into_iter().zip(self.voices.iter_mut().zip(streams.iter()))
        {
            if !stream.wanted {
                continue;
            }
            let header = Header {
                marker: self.marker,
                payload_type: stream.payload_type,
                sequence: voice.sequence,
                timestamp: voice.zero.wrapping_add(frames),
                ssrc: voice.ssrc,
            };
            let (mut room, mut sealed) = ([0u8; ROOM], [0u8; ROOM]);
            let Some(packet) = block.packet((leg, self.part, PARTS), header, stream.codec, &mut room) else { continue };
            voice.sequence = voice.sequence.wrapping_add(1);
            voice.packets = voice.packets.wrapping_add(1);
            voice.octets = voice.octets.wrapping_add(FRAMES);
            match (&stream.srtp, &mut voice.sender) {
                (None, _) => sink.rtp(leg.index(), packet),
                (Some(_), Some(sender)) => {
                    if let Some(packet) = packet.sealed(sender, &mut sealed) {
                        sink.rtp(leg.index(), packet);
                    }
                }
                (Some(_), None) => {}
            }
        }
        self.marker = false;
        self.part += 1;
        if self.part == PARTS {
            self.part = 0;
            let next = number + 1;
            self.queue.pop_front();
            // A gap in the numbers is a pause.
            self.marker = self.queue.front().is_some_and(|(number, _)| *number != next);
        }
    }

    fn report(&mut self, now: Instant, bye: bool, sink: &mut impl Sink) {
        let Some(streams) = &self.streams else { return };
        let since = now.saturating_duration_since(self.began);
        for (at, (voice, stream)) in self.voices.iter_mut().zip(streams.iter()).enumerate() {
            let frames = (since.as_millis() as u32).wrapping_mul(8);
            let sending = Sending {
                ntp: rtcp::ntp(since),
                rtp_time: voice.zero.wrapping_add(frames),
                packets: voice.packets,
                octets: voice.octets,
            };
            let compound: Compound = rtcp::build(voice.ssrc, &voice.cname, Some(sending), None, bye);
            let mut sealed = [0u8; rtcp::MAX_COMPOUND + 48];
            match (&stream.srtp, &mut voice.sender) {
                (None, _) => sink.rtcp(at, &compound),
                (Some(_), Some(sender)) => {
                    if let Some(report) = sender.seal_rtcp(&compound, &mut sealed) {
                        sink.rtcp(at, report);
                    }
                }
                (Some(_), None) => {}
            }
        }
    }
}
