//! The RTP stream of ours toward one leg: one SSRC, sequence and timestamps without a break, whatever happens to the
//! source. Headers and payloads that the guard has decided on go in; [`Masked`] packets come out. It decides nothing.

use std::time::{Duration, Instant};

use arrayvec::ArrayVec;
use rand::RngExt;

use super::masked::Masked;
use crate::base::Random;
use crate::config::Codec;
use crate::dsp::{PER_MS, RATE, opus};
use crate::rtp::{HEADER_LEN, Header, MAX_DATAGRAM};

/// The most payload bytes one packet carries.
pub const MAX_PAYLOAD: usize = MAX_DATAGRAM - HEADER_LEN;

/// What the receiving leg takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sink {
    /// Codecs and their payload types; the first is used for what we generate. Empty: nothing is sent.
    pub audio: ArrayVec<(Codec, u8), 4>,
    /// Telephone-event payload type and clock rate in Hz.
    pub event: Option<(u8, u32)>,
    /// Packet time of what we generate, in ms.
    pub ptime_ms: u8,
    /// The most bit/s of Opus the leg takes; 0: it did not say.
    pub opus_bitrate: u32,
    /// Comfort noise (RFC 3389) payload type.
    pub comfort_noise: Option<u8>,
    /// Whether anything may be sent now.
    pub open: bool,
}

impl Sink {
    /// A leg that takes nothing yet.
    pub fn closed() -> Self {
        Self { audio: ArrayVec::new(), event: None, ptime_ms: 20, opus_bitrate: 0, comfort_noise: None, open: false }
    }

    /// Samples in one packet that we generate.
    pub fn frame(&self) -> usize {
        let wished = usize::from(self.ptime_ms.clamp(10, 60)) * PER_MS;
        if self.payload_type(Codec::Opus).is_none() {
            return wished;
        }
        opus::FRAMES.into_iter().find(|frame| *frame <= wished).unwrap_or(wished)
    }

    /// The format of what is made here: the first that can be.
    pub(super) fn own(&self) -> Option<(Codec, u8)> {
        self.audio.iter().copied().find(|(codec, _)| codec.can_be_masked())
    }

    /// The payload type of `codec` on this leg.
    pub fn payload_type(&self, codec: Codec) -> Option<u8> {
        self.audio.iter().find(|(c, _)| *c == codec).map(|(_, payload_type)| *payload_type)
    }
}

/// A packet on its way out.
pub struct Sent<'a> {
    /// The whole datagram.
    pub packet: Masked<&'a [u8]>,
    /// Its time in the stream, in samples at 8 kHz.
    pub timestamp: u32,
    /// The codec of its payload; `None` for an event packet.
    pub codec: Option<Codec>,
    /// What it sounds like at 8 kHz, where the payload alone does not tell (a codec with state).
    pub sound: &'a [i16],
}

impl<'a> Sent<'a> {
    /// The payload after the header, which is always [`HEADER_LEN`] bytes.
    pub fn payload(&self) -> &'a [u8] {
        &self.packet.get()[HEADER_LEN..]
    }
}

/// The place of a packet in our stream.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub sequence: u64,
    pub timestamp: u32,
    pub marker: bool,
}

/// Our stream toward one leg. Inside, time is counted in samples at 8 kHz; only what is written counts by the codec's own
/// clock. Each clock rate has its own SSRC (RFC 7160).
pub struct Stream {
    ssrc: u32,
    /// The SSRC of the clock rate that is not in use.
    other_ssrc: u32,
    /// Ticks of the codec's clock per sample at 8 kHz: 1, or 6 with Opus.
    ticks: u32,
    /// The number after the highest sent; its low 16 bits go on the wire.
    next: u64,
    /// The timestamp after the newest sample sent.
    edge: u32,
    /// When the newest packet went out, and how many samples it held.
    last: Option<(Instant, u32)>,
    packets: u32,
    octets: u32,
    bytes: [u8; MAX_DATAGRAM],
}

impl Stream {
    /// A stream that has sent nothing; SSRC, sequence and timestamp are random (RFC 3550 section 5.1).
    pub fn new(random: &mut Random) -> Self {
        Self {
            ssrc: random.random(),
            other_ssrc: random.random(),
            ticks: 1,
            // Away from a wrap at once, so that reordering at the start cannot pass below zero, and far before the next one
            // (RFC 3711 section 3.3.1), so that who joins late still guesses the rollover counter.
            next: 0x1_0000 + u64::from(random.random::<u16>() >> 1),
            edge: random.random(),
            last: None,
            packets: 0,
            octets: 0,
            bytes: [0; MAX_DATAGRAM],
        }
    }

    /// Our SSRC.
    pub fn ssrc(&self) -> u32 {
        self.ssrc
    }

    /// Packets and payload bytes sent, modulo 2³² as in sender reports.
    pub fn sent(&self) -> (u32, u32) {
        (self.packets, self.octets)
    }

    /// The RTP timestamp that stands for `now`; `None` before anything was sent.
    pub fn clock(&self, now: Instant) -> Option<u32> {
        let (last, _) = self.last?;
        let edge = self.edge.wrapping_add(samples_in(now.saturating_duration_since(last)));
        Some(edge.wrapping_mul(self.ticks))
    }

    /// Counts by the clock of `codec` from now on.
    fn set_clock(&mut self, codec: Codec) {
        let ticks = (codec.clock_rate() / RATE).max(1);
        if ticks != self.ticks {
            std::mem::swap(&mut self.ssrc, &mut self.other_ssrc);
            (self.ticks, self.packets, self.octets) = (ticks, 0, 0);
        }
    }

    pub(super) fn next_sequence(&self) -> u64 {
        self.next
    }

    pub(super) fn edge(&self) -> u32 {
        self.edge
    }

    pub(super) fn last_sent(&self) -> Option<Instant> {
        self.last.map(|(at, _)| at)
    }

    /// The timestamp of a packet that begins a new stretch at `now`: right after the newest sample when it follows in
    /// time, later by what has passed when it does not.
    pub(super) fn resume_at(&self, now: Instant) -> u32 {
        let Some((last, samples)) = self.last else { return self.edge };
        let silent = samples_in(now.saturating_duration_since(last)).saturating_sub(samples);
        // Less than two packet times is scheduling, not a pause.
        self.edge.wrapping_add(if silent < 320 { 0 } else { silent })
    }

    /// Leaves `samples` out of the stream's time without leaving out a packet.
    pub(super) fn skip(&mut self, now: Instant, samples: u32) {
        self.edge = self.edge.wrapping_add(samples);
        if self.last.is_some() {
            self.last = Some((now, samples));
        }
    }

    /// Puts one packet together and hands it out; without payload there is none. `samples` is how far the payload reaches
    /// in media time, `sound` what it sounds like where its bytes do not tell.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn send(
        &mut self,
        now: Instant,
        place: Place,
        payload_type: u8,
        codec: Option<Codec>,
        samples: u32,
        sound: &[i16],
        fill: impl FnOnce(&mut [u8]) -> usize,
        out: &mut impl FnMut(Sent<'_>),
    ) {
        if let Some(codec) = codec {
            self.set_clock(codec);
        }
        let Some((header, room)) = self.bytes.split_first_chunk_mut::<HEADER_LEN>() else { return };
        let header_of = Header {
            marker: place.marker,
            payload_type,
            sequence: place.sequence as u16,
            timestamp: place.timestamp.wrapping_mul(self.ticks),
            ssrc: self.ssrc,
        };
        header_of.write(header);
        let length = fill(room).min(MAX_PAYLOAD);
        if length == 0 {
            return;
        }
        self.packets = self.packets.wrapping_add(1);
        self.octets = self.octets.wrapping_add(length as u32);
        if place.sequence >= self.next {
            self.next = place.sequence + 1;
        }
        let end = place.timestamp.wrapping_add(samples);
        let progress = end.wrapping_sub(self.edge) as i32;
        if progress >= 0 || self.last.is_none() {
            self.edge = end;
            self.last = Some((now, samples.min(progress.unsigned_abs())));
        }
        let packet = Masked::new(&self.bytes[..HEADER_LEN + length]);
        out(Sent { packet, timestamp: place.timestamp, codec, sound });
    }
}

/// A span in samples at 8 kHz.
pub(super) fn samples_in(span: Duration) -> u32 {
    u32::try_from(span.as_micros() / 125).unwrap_or(u32::MAX)
}

/// `samples` at 8 kHz as a span.
pub(super) fn span_of(samples: u64) -> Duration {
    Duration::from_micros(samples.saturating_mul(125))
}
