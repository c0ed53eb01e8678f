//! Everything one side of a call received: each RTP packet with its arrival time, and the sound it amounts to. This is
//! what an attacker on that leg has. Packets go in; samples, events, losses and metadata come out. It plays nothing and
//! conceals nothing: what is missing is zero.

use std::collections::BTreeMap;
use std::time::Instant;

use super::coding::Coder;
use crate::config::Codec;

/// One received RTP packet (RFC 3550 section 5.1), parsed by the testkit's own few lines, not by `rtp`.
#[derive(Debug, Clone)]
pub struct Packet {
    /// When it arrived.
    pub at: Instant,
    /// Synchronisation source.
    pub ssrc: u32,
    /// Sequence number.
    pub sequence: u16,
    /// RTP timestamp.
    pub timestamp: u32,
    /// Payload type.
    pub payload_type: u8,
    /// Marker bit.
    pub marker: bool,
    /// Payload, after CSRCs, extension and padding.
    pub payload: Vec<u8>,
}

impl Packet {
    /// Reads an RTP packet; `None` when it is not one.
    pub fn parse(at: Instant, bytes: &[u8]) -> Option<Packet> {
        let fixed = bytes.get(..12)?;
        if fixed[0] >> 6 != 2 {
            return None;
        }
        let mut start = 12 + usize::from(fixed[0] & 0x0f) * 4;
        if fixed[0] & 0x10 != 0 {
            let length = bytes.get(start + 2..start + 4)?;
            start += 4 + usize::from(u16::from_be_bytes([length[0], length[1]])) * 4;
        }
        let mut payload = bytes.get(start..)?;
        if fixed[0] & 0x20 != 0 {
            let padding = usize::from(*payload.last()?);
            payload = payload.get(..payload.len().checked_sub(padding)?)?;
        }
        Some(Packet {
            at,
            ssrc: u32::from_be_bytes([fixed[8], fixed[9], fixed[10], fixed[11]]),
            sequence: u16::from_be_bytes([fixed[2], fixed[3]]),
            timestamp: u32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]),
            payload_type: fixed[1] & 0x7f,
            marker: fixed[1] & 0x80 != 0,
            payload: payload.to_vec(),
        })
    }
}

/// A stretch of one SSRC's sound.
#[derive(Debug, Clone)]
pub struct Stream {
    /// Synchronisation source.
    pub ssrc: u32,
    /// Arrival of its first packet.
    pub began: Instant,
    /// RTP timestamp of sample 0.
    pub first_timestamp: u32,
    /// Linear 8 kHz samples by timestamp; what never arrived is zero.
    pub samples: Vec<i16>,
}

/// What one side of a call received.
#[derive(Debug, Default)]
pub struct Heard {
    packets: Vec<Packet>,
    rtcp: Vec<(Instant, Vec<u8>)>,
    not_rtp: u64,
    audio: BTreeMap<u8, Codec>,
    events: Vec<u8>,
}

/// The longest stretch one stream may span: an hour. What lies beyond by its timestamp is left out of the sound.
const LONGEST: u32 = 8_000 * 3_600;

impl Heard {
    /// Declares the payload types audio may come in, added to those declared before.
    pub fn expect_audio(&mut self, payload_type: u8, codec: Codec) {
        self.audio.insert(payload_type, codec);
    }

    /// Declares a telephone-event payload type.
    pub fn expect_events(&mut self, payload_type: u8) {
        if !self.events.contains(&payload_type) {
            self.events.push(payload_type);
        }
    }

    /// Takes in what arrived on the RTP port.
    pub fn handle_rtp(&mut self, now: Instant, bytes: &[u8]) {
        match Packet::parse(now, bytes) {
            Some(packet) => self.packets.push(packet),
            None => self.not_rtp += 1,
        }
    }

    /// Takes in what arrived on the RTCP port.
    pub fn handle_rtcp(&mut self, now: Instant, bytes: &[u8]) {
        self.rtcp.push((now, bytes.to_vec()));
    }

    /// Every RTP packet in order of arrival.
    pub fn packets(&self) -> &[Packet] {
        &self.packets
    }

    /// Every RTCP packet in order of arrival.
    pub fn rtcp(&self) -> &[(Instant, Vec<u8>)] {
        &self.rtcp
    }

    /// How many datagrams on the RTP port were not RTP.
    pub fn not_rtp(&self) -> u64 {
        self.not_rtp
    }

    /// The sound, one stream per SSRC in order of first arrival.
    pub fn streams(&self) -> Vec<Stream> {
        let mut sources: Vec<u32> = Vec::new();
        for packet in self.packets.iter().filter(|p| self.audio.contains_key(&p.payload_type)) {
            if !sources.contains(&packet.ssrc) {
                sources.push(packet.ssrc);
            }
        }
        sources.into_iter().filter_map(|ssrc| self.stream(ssrc)).collect()
    }

    /// One source's sound: its packets, decoded in the order of their timestamps.
    fn stream(&self, ssrc: u32) -> Option<Stream> {
        let own = |p: &&Packet| p.ssrc == ssrc && self.audio.contains_key(&p.payload_type);
        let mut packets: Vec<&Packet> = self.packets.iter().filter(own).collect();
        let first = packets.first()?;
        let (began, origin) = (first.at, first.timestamp);
        let ahead = |p: &&Packet| i64::from(p.timestamp.wrapping_sub(origin) as i32);
        packets.sort_by_key(ahead);
        // The stream's true first packet may have come later; what lies far off by its timestamp is left out.
        let steps = packets.first().and_then(|p| self.audio.get(&p.payload_type)).map_or(1, |c| Coder::steps(*c));
        packets.retain(|p| (-8_000..=i64::from(LONGEST)).contains(&(ahead(p) / i64::from(steps))));
        let first_timestamp = packets.first()?.timestamp;
        let mut stream = Stream { ssrc, began, first_timestamp, samples: Vec::new() };
        let mut coders: BTreeMap<u8, Coder> = BTreeMap::new();
        let mut last = None;
        for packet in packets {
            let Some(codec) = self.audio.get(&packet.payload_type) else { continue };
            if last == Some(packet.timestamp) {
                continue;
            }
            last = Some(packet.timestamp);
            let coder = coders.entry(packet.payload_type).or_insert_with(|| Coder::new(*codec));
            let samples = coder.decode(&packet.payload);
            let from = (packet.timestamp.wrapping_sub(first_timestamp) / Coder::steps(*codec)) as usize;
            let to = from + samples.len();
            if stream.samples.len() < to {
                stream.samples.resize(to, 0);
            }
            stream.samples[from..to].copy_from_slice(&samples);
        }
        Some(stream)
    }

    /// The sound of all streams, one after the other.
    pub fn samples(&self) -> Vec<i16> {
        self.streams().into_iter().flat_map(|s| s.samples).collect()
    }

    /// The audio payload bytes by timestamp order of one SSRC, for byte-for-byte comparison.
    pub fn payload_bytes(&self) -> Vec<u8> {
        let mut audio: Vec<&Packet> =
            self.packets.iter().filter(|p| self.audio.contains_key(&p.payload_type)).collect();
        let Some(first) = audio.first().map(|p| p.timestamp) else { return Vec::new() };
        audio.sort_by_key(|p| p.timestamp.wrapping_sub(first) as i32);
        audio.dedup_by_key(|p| (p.ssrc, p.timestamp));
        audio.iter().flat_map(|p| p.payload.iter().copied()).collect()
    }

    /// Keys that arrived as RFC 4733 events, each (SSRC, timestamp, event) once, in order of arrival, as event codes.
    pub fn event_codes(&self) -> Vec<u8> {
        let mut seen: Vec<(u32, u32, u8)> = Vec::new();
        for packet in self.packets.iter().filter(|p| self.events.contains(&p.payload_type)) {
            for block in packet.payload.chunks_exact(4) {
                let identity = (packet.ssrc, packet.timestamp, block[0]);
                if !seen.contains(&identity) {
                    seen.push(identity);
                }
            }
        }
        seen.into_iter().map(|(_, _, event)| event).collect()
    }

    /// Packets that never arrived, by the gaps in each SSRC's sequence numbers.
    pub fn lost(&self) -> u64 {
        let mut by_source: BTreeMap<u32, Vec<i64>> = BTreeMap::new();
        for packet in &self.packets {
            let seen = by_source.entry(packet.ssrc).or_default();
            let last = seen.last().copied().unwrap_or(i64::from(packet.sequence));
            let step = i64::from(packet.sequence.wrapping_sub(last as u16) as i16);
            seen.push(last + step);
        }
        let missing = |mut numbers: Vec<i64>| {
            numbers.sort_unstable();
            numbers.dedup();
            let span = numbers.last().zip(numbers.first()).map_or(0, |(last, first)| last - first + 1);
            (span - numbers.len() as i64) as u64
        };
        by_source.into_values().map(missing).sum()
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use super::*;
    use crate::testkit::companding as g711;

    fn rtp(sequence: u16, timestamp: u32, payload_type: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x80, payload_type];
        bytes.extend(sequence.to_be_bytes());
        bytes.extend(timestamp.to_be_bytes());
        bytes.extend(7u32.to_be_bytes());
        bytes.extend(payload);
        bytes
    }

    fn heard(packets: &[Vec<u8>]) -> Heard {
        let mut heard = Heard::default();
        heard.expect_audio(0, Codec::Pcmu);
        heard.expect_events(101);
        packets.iter().for_each(|p| heard.handle_rtp(Instant::now(), p));
        heard
    }

    #[test]
    fn sound_is_laid_out_by_timestamp_whatever_the_order() {
        let (a, b) = ([0x10u8; 160], [0x20u8; 160]);
        let heard = heard(&[rtp(65_535, u32::MAX - 159, 0, &a), rtp(1, 160, 0, &b), rtp(0, 0, 0, &a)]);
        let streams = heard.streams();
        assert_eq!(streams.len(), 1);
        assert_eq!(streams[0].samples.len(), 480);
        assert_eq!(streams[0].samples[479], g711::ulaw_decode(0x20));
        assert_eq!(heard.lost(), 0);
    }

    #[test]
    fn a_gap_counts_as_lost_and_sounds_as_nothing() {
        let heard = heard(&[rtp(1, 0, 0, &[0; 80]), rtp(3, 160, 0, &[0; 80])]);
        assert_eq!(heard.lost(), 1);
        assert!(heard.samples()[80..160].iter().all(|s| *s == 0));
    }

    #[test]
    fn an_event_is_heard_once_by_its_identity() {
        let heard = heard(&[
            rtp(1, 160, 101, &[5, 10, 0, 160]),
            rtp(2, 160, 101, &[5, 0x8a, 1, 64]),
            rtp(3, 160, 101, &[5, 0x8a, 1, 64]),
            rtp(4, 960, 101, &[5, 10, 0, 160]),
        ]);
        assert_eq!(heard.event_codes(), [5, 5]);
    }

    #[test]
    fn every_truncation_is_survived() {
        let mut whole = rtp(1, 2, 0, &[1, 2, 3, 4]);
        whole[0] |= 0x30 | 0x02;
        for end in 0..whole.len() {
            let _ = Packet::parse(Instant::now(), &whole[..end]);
        }
    }
}
