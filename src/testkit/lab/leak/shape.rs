//! The shape of what a sink gets: when, how large, of which type; never what it sounds like. From the packets of a call
//! and the moments in question come labelled features for the permutation tests and the classifier on metadata.
//!
//! A moment is a time at which a key goes down, or might have: half of a call's stretches have keys at their moments, the
//! other half has none, by a coin. What differs then is the keys.

use std::time::Instant;

use super::permutation::Family;
use crate::testkit::heard::{Heard, Packet};

/// From this long before a moment to …
const BEFORE_MS: f64 = 40.0;
/// … this long after it.
const AFTER_MS: f64 = 240.0;

/// What is looked at around a moment on a leg's RTP.
pub const RTP: [&str; 12] = [
    "packets",
    "payload bytes",
    "largest less smallest payload",
    "packets of another type",
    "markers",
    "sequence steps other than 1",
    "timestamp steps other than a packet's",
    "interval, mean (ms)",
    "interval, longest (ms)",
    "interval, shortest (ms)",
    "interval, spread (ms)",
    "change of delay by timestamps (ms)",
];

/// What is looked at in each RTCP report.
pub const RTCP: [&str; 11] = [
    "interval (ms)",
    "datagram bytes",
    "sender's packets less those by its clock",
    "sender's octets per packet",
    "RTP clock less real time (ms)",
    "RTP clock less NTP (ms)",
    "fraction lost",
    "cumulative lost",
    "sequence less packets by real time",
    "jitter",
    "delay since last report",
];

/// What is looked at around a moment in a recorder's blocks.
pub const BLOCKS: [&str; 5] = [
    "blocks or writes",
    "samples or bytes of each",
    "marked gaps",
    "interval, longest (ms)",
    "interval, shortest (ms)",
];

/// What is looked at of an event stream.
pub const EVENTS: [&str; 1] = ["key down to event (ms)"];

/// A time at which a key went down, or might have.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// When, ms since the call's media began.
    pub at_ms: f64,
    /// The key, if one was pressed.
    pub key: Option<u8>,
}

fn ms(at: Instant, since: Instant) -> f64 {
    if at >= since {
        at.duration_since(since).as_secs_f64() * 1e3
    } else {
        -since.duration_since(at).as_secs_f64() * 1e3
    }
}

/// The features of one leg's RTP around a moment; `None` where fewer than three packets came.
pub fn around(packets: &[Packet], began: Instant, at_ms: f64) -> Option<[f64; 12]> {
    let time = |p: &Packet| ms(p.at, began);
    let from = packets.partition_point(|p| time(p) < at_ms - BEFORE_MS);
    let to = packets.partition_point(|p| time(p) < at_ms + AFTER_MS);
    let seen = &packets[from..to];
    let usual = packets.first()?;
    let frame = usual.payload.len() as u32;
    let (first, last) = (seen.first()?, seen.last()?);
    let pairs = || seen.windows(2).map(|w| (&w[0], &w[1]));
    let gaps: Vec<f64> = pairs().map(|(a, b)| time(b) - time(a)).collect();
    if gaps.len() < 2 {
        return None;
    }
    let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
    let spread = (gaps.iter().map(|g| (g - mean) * (g - mean)).sum::<f64>() / gaps.len() as f64).sqrt();
    let sizes = || seen.iter().map(|p| p.payload.len());
    let odd = |wanted: &dyn Fn(&Packet, &Packet) -> bool| pairs().filter(|(a, b)| !wanted(a, b)).count() as f64;
    let stamped = f64::from(last.timestamp.wrapping_sub(first.timestamp) as i32) / 8.0;
    Some([
        seen.len() as f64,
        sizes().sum::<usize>() as f64,
        (sizes().max().unwrap_or(0) - sizes().min().unwrap_or(0)) as f64,
        seen.iter().filter(|p| p.payload_type != usual.payload_type).count() as f64,
        seen.iter().filter(|p| p.marker).count() as f64,
        odd(&|a, b| b.sequence == a.sequence.wrapping_add(1)),
        odd(&|a, b| b.timestamp == a.timestamp.wrapping_add(frame)),
        mean,
        gaps.iter().copied().fold(0.0, f64::max),
        gaps.iter().copied().fold(f64::INFINITY, f64::min),
        spread,
        stamped - (time(last) - time(first)),
    ])
}

/// Whether and which, of one kind of features.
pub struct Pair {
    /// Labels 1 with a key, 0 without.
    pub whether: Family,
    /// Labelled by key.
    pub which: Family,
}

impl Pair {
    /// Without observations.
    pub fn new(names: &[&str]) -> Self {
        Self { whether: Family::new(names), which: Family::new(names) }
    }

    fn add(&mut self, call: u32, key: Option<u8>, values: &[f64]) {
        self.whether.add(call, u8::from(key.is_some()), values);
        if let Some(key) = key {
            self.which.add(call, key, values);
        }
    }

    /// Takes all of another.
    pub fn extend(&mut self, other: &Pair) {
        self.whether.extend(&other.whether);
        self.which.extend(&other.which);
    }
}

/// Adds the RTP of `heard` around each moment.
pub fn add_rtp(pair: &mut Pair, call: u32, heard: &Heard, began: Instant, moments: &[Moment]) {
    for moment in moments {
        if let Some(values) = around(heard.packets(), began, moment.at_ms) {
            pair.add(call, moment.key, &values);
        }
    }
}

/// Adds what a recorder was given, or a file grew by, around each moment: time in ms since the media began, how much,
/// whether a marked gap. What a key leaves comes with the tap's lag behind it, and with the next one or two of them.
pub fn add_blocks(pair: &mut Pair, call: u32, blocks: &[(f64, usize, bool)], moments: &[Moment]) {
    const LAG_MS: f64 = 400.0;
    let (Some(first), Some(last)) = (blocks.first(), blocks.last()) else { return };
    let step = (last.0 - first.0) / (blocks.len() - 1).max(1) as f64;
    for moment in moments {
        let from = blocks.partition_point(|(at, ..)| *at < moment.at_ms - step);
        let to = blocks.partition_point(|(at, ..)| *at < moment.at_ms + LAG_MS + 2.0 * step);
        let seen = &blocks[from..to];
        if seen.len() < 2 {
            continue;
        }
        let gaps = || seen.windows(2).map(|w| w[1].0 - w[0].0);
        let samples: usize = seen.iter().map(|(_, n, _)| n).sum();
        let values = [
            seen.len() as f64,
            samples as f64 / seen.len() as f64,
            seen.iter().filter(|(.., paused)| *paused).count() as f64,
            gaps().fold(0.0, f64::max),
            gaps().fold(f64::INFINITY, f64::min),
        ];
        pair.add(call, moment.key, &values);
    }
}

/// The numbers of one report (RFC 3550 section 6.4), read by the testkit's own few lines.
#[derive(Debug, Clone, Copy)]
struct Numbers {
    at_ms: f64,
    bytes: usize,
    ntp_ms: f64,
    rtp: u32,
    packets: u32,
    octets: u32,
    lost: [f64; 2],
    highest: u32,
    jitter: u32,
    dlsr_ms: f64,
}

fn numbers(at_ms: f64, bytes: &[u8]) -> Option<Numbers> {
    let word = |at: usize| Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    if bytes.get(1) != Some(&200) {
        return None;
    }
    let count = bytes[0] & 0x1f;
    let block = |at: usize| if count > 0 { word(28 + at) } else { Some(0) };
    Some(Numbers {
        at_ms,
        bytes: bytes.len(),
        ntp_ms: f64::from(word(8)?) * 1e3 + f64::from(word(12)?) / 4_294_967.296,
        rtp: word(16)?,
        packets: word(20)?,
        octets: word(24)?,
        lost: [f64::from(block(4)? >> 24), f64::from(block(4)? & 0xff_ffff)],
        highest: block(8)?,
        jitter: block(12)?,
        dlsr_ms: f64::from(block(20)?) / 65.536,
    })
}

/// Adds the reports of `heard`: each against the one before it, labelled by the last moment between them.
pub fn add_rtcp(pair: &mut Pair, call: u32, heard: &Heard, began: Instant, ptime_ms: u32, moments: &[Moment]) {
    let reports: Vec<Numbers> = heard.rtcp().iter().filter_map(|(at, bytes)| numbers(ms(*at, began), bytes)).collect();
    for two in reports.windows(2) {
        let (a, b) = (two[0], two[1]);
        // The last moment alone gives the label: with more of them in a longer interval, its length would tell of keys.
        let between = |m: &&Moment| (a.at_ms..b.at_ms - AFTER_MS).contains(&m.at_ms);
        let Some(Moment { key, .. }) = moments.iter().rfind(between).copied() else { continue };
        let (real, packets) = (b.at_ms - a.at_ms, f64::from(b.packets.wrapping_sub(a.packets)));
        let stamped = f64::from(b.rtp.wrapping_sub(a.rtp) as i32) / 8.0;
        let octets = f64::from(b.octets.wrapping_sub(a.octets));
        let values = [
            real,
            b.bytes as f64,
            (packets - stamped / f64::from(ptime_ms)).round(),
            (octets / packets.max(1.0) * 10.0).round() / 10.0,
            (stamped - real).round(),
            (stamped - (b.ntp_ms - a.ntp_ms)).round(),
            b.lost[0],
            b.lost[1] - a.lost[1],
            (f64::from(b.highest.wrapping_sub(a.highest)) - real / f64::from(ptime_ms)).round(),
            f64::from(b.jitter),
            b.dlsr_ms,
        ];
        pair.add(call, key, &values);
    }
}

/// Adds how long after its moment each key's event came: the n-th event for the n-th key.
pub fn add_events(which: &mut Family, call: u32, events_ms: &[f64], moments: &[Moment]) {
    let keyed = moments.iter().filter_map(|m| Some((m.at_ms, m.key?)));
    for ((at, key), event) in keyed.zip(events_ms) {
        which.add(call, key, &[event - at]);
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn packet(began: Instant, at_ms: f64, n: u32, payload_type: u8, bytes: usize) -> Packet {
        Packet {
            at: began + Duration::from_secs_f64(at_ms / 1e3),
            ssrc: 1,
            sequence: n as u16,
            timestamp: n * 160,
            payload_type,
            marker: false,
            payload: vec![0; bytes],
        }
    }

    #[test]
    fn an_even_stream_has_an_even_shape_and_an_event_shows() {
        let began = Instant::now();
        let even: Vec<Packet> = (0..100).map(|n| packet(began, f64::from(n) * 20.0, n, 0, 160)).collect();
        let shape = around(&even, began, 1_000.0).unwrap();
        assert_eq!(shape[..7], [14.0, 14.0 * 160.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
        assert!((shape[7] - 20.0).abs() < 1e-6 && shape[10] < 1e-6 && shape[11].abs() < 1e-6);
        let mut told = even;
        told[52] = packet(began, 1_043.0, 52, 101, 4);
        let shape = around(&told, began, 1_000.0).unwrap();
        assert_eq!(shape[2..4], [156.0, 1.0]);
        assert!((shape[8] - 23.0).abs() < 1e-6 && (shape[9] - 17.0).abs() < 1e-6);
        assert!(around(&told, began, 9_000.0).is_none());
    }

    #[test]
    fn reports_are_read_and_labelled_by_what_lies_between() {
        let began = Instant::now();
        let report = |packets: u32, rtp: u32| {
            let mut bytes = vec![0x80, 200, 0, 6, 0, 0, 0, 1];
            for word in [0, 0, rtp, packets, packets * 160] {
                bytes.extend_from_slice(&u32::to_be_bytes(word));
            }
            bytes
        };
        let mut heard = Heard::default();
        for n in 0..4u32 {
            heard.handle_rtcp(began + Duration::from_secs(5 * u64::from(n)), &report(250 * n, 40_000 * n));
        }
        let mut pair = Pair::new(&RTCP);
        let moments = [
            Moment { at_ms: 1_000.0, key: None },
            Moment { at_ms: 6_000.0, key: None },
            Moment { at_ms: 7_000.0, key: Some(7) },
        ];
        add_rtcp(&mut pair, 0, &heard, began, 20, &moments);
        let seen: Vec<_> = pair.whether.observations().collect();
        assert_eq!(seen.iter().map(|(_, label)| *label).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(seen[0].0[..5], [5_000.0, 28.0, 0.0, 160.0, 0.0]);
        assert_eq!(pair.which.observations().map(|(_, key)| key).collect::<Vec<_>>(), [7]);
        for end in 0..28 {
            assert!(numbers(0.0, &report(1, 1)[..end]).is_none());
        }
    }
}
