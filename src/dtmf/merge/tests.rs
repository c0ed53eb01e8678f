use super::*;
use crate::dsp::noise::Noise;
use crate::dtmf::event::{Block, EventPacket, Tracker, write};

fn digit(c: char) -> Digit {
    Digit::from_char(c).expect("a key")
}

/// Where the line's count begins.
const PLACE: u64 = 1 << 32;

/// What a detector heard, ms after the start.
enum Heard {
    /// Began at `begin` ms, and was named so much later.
    Tone {
        begin: u64,
        lag_ms: u64,
        key: char,
    },
    Event {
        timestamp: u32,
        end: bool,
        duration: u16,
        key: char,
    },
    Info {
        key: char,
    },
}

/// Plays sightings in order of time and returns the keys that came out. `clock`: events run on the audio's clock.
fn play(mut heard: Vec<(u64, Heard)>, clock: bool) -> String {
    heard.sort_by_key(|(at, _)| *at);
    let start = Instant::now() + Duration::from_secs(10);
    let (mut merger, mut tracker, mut out) = (Merger::new(), Tracker::new(), String::new());
    let drain = |merger: &mut Merger, out: &mut String| {
        while let Some(press) = merger.poll_press() {
            out.push(press.digit.expose_char());
        }
    };
    for (at, what) in heard {
        let now = start + Duration::from_millis(at);
        while let Some(due) = merger.poll_timeout().filter(|due| *due <= now) {
            merger.handle_timeout(due);
            drain(&mut merger, &mut out);
        }
        match what {
            Heard::Tone { begin, lag_ms, key } => merger.handle_inband(now, lag_ms * 8, PLACE + begin * 8, digit(key)),
            Heard::Info { key } => merger.handle_info(now, digit(key)),
            Heard::Event { timestamp, end, duration, key } => {
                let block = Block { event: digit(key).expose_event(), end, volume: 10, duration, offset: 0 };
                let payload = write(&block);
                let packet = EventPacket { ssrc: 9, timestamp, clock_hz: 8000, payload: &payload };
                let place = clock.then_some(PLACE + u64::from(timestamp));
                tracker.handle(now, &packet, |p| merger.handle_event(now, Moment { at: p.onset, place }, p.digit));
            }
        }
        drain(&mut merger, &mut out);
    }
    while let Some(due) = merger.poll_timeout() {
        merger.handle_timeout(due);
        drain(&mut merger, &mut out);
    }
    out
}

/// How a call carries its digits.
#[derive(Debug, Clone, Copy)]
struct Path {
    tone: bool,
    event: bool,
    info: bool,
    event_lag_ms: u64,
    /// INFO against the press, −500…500 ms.
    info_lag_ms: i64,
    loss_percent: u64,
}

/// The sightings of `keys` (key, down at ms, for ms) over `path`, with jitter, duplicates, reordering and loss of event
/// packets, and loss of tones when another form carries the digit too.
fn sightings(keys: &[(char, u64, u64)], path: Path, noise: &mut Noise) -> Vec<(u64, Heard)> {
    let mut heard = Vec::new();
    let mut below = |n: u64| noise.bits() % n;
    let mut last_info = 0;
    for (key, at, length) in keys.iter().copied() {
        let jitter = below(15);
        let tone_lost = path.event && below(100) < path.loss_percent;
        if path.tone && !tone_lost {
            heard.push((at + 28 + jitter, Heard::Tone { begin: at, lag_ms: 28, key }));
        }
        if path.event {
            let begin = at + path.event_lag_ms;
            let packets = length.div_ceil(20);
            for n in 1..=packets + 2 {
                let end = n >= packets;
                let duration = (n.min(packets) * 160) as u16;
                let packet = || Heard::Event { timestamp: (begin * 8) as u32, end, duration, key };
                let arrival = begin + 20 * n + below(50);
                if below(100) < path.loss_percent {
                    continue;
                }
                heard.push((arrival, packet()));
                if below(100) < 5 {
                    heard.push((arrival + below(80), packet()));
                }
            }
        }
        if path.info {
            // In CSeq order, however late.
            last_info = (at as i64 + path.info_lag_ms + below(60) as i64).max(last_info + 1);
            heard.push((last_info as u64, Heard::Info { key }));
        }
    }
    heard
}

#[test]
fn one_press_in_three_forms_is_one_digit_at_every_lag() {
    for event_lag_ms in [0, 20, 60, 100] {
        for info_lag_ms in [-500, -200, 0, 200, 440] {
            for forms in 1..8u8 {
                let path = Path {
                    tone: forms & 1 != 0,
                    event: forms & 2 != 0,
                    info: forms & 4 != 0,
                    event_lag_ms,
                    info_lag_ms,
                    loss_percent: 0,
                };
                let keys = [('4', 1000, 60), ('2', 1100, 60), ('2', 1190, 40), ('2', 1400, 100), ('#', 1900, 50)];
                let heard = sightings(&keys, path, &mut Noise::new(1));
                assert_eq!(play(heard, forms % 2 == 0), "4222#", "{path:?}");
            }
        }
    }
}

/// Any schedule of presses over any path: the keys, the path, and what is heard of them.
fn any(seed: u64) -> (String, Path, Vec<(u64, Heard)>) {
    let mut noise = Noise::new(seed);
    let mut below = |n: u64| noise.bits() % n;
    let mut at = 1000;
    let keys: Vec<_> = (0..1 + below(16))
        .map(|_| {
            let length = 40 + below(120);
            // Half of the schedules use few keys, so that neighbours are often the same.
            let key = char::from(b'0' + below(if seed.is_multiple_of(2) { 2 } else { 10 }) as u8);
            let press = (key, at, length);
            at += length + 30 + below(if seed.is_multiple_of(3) { 20 } else { 400 });
            press
        })
        .collect();
    let forms = 1 + below(7) as u8;
    let path = Path {
        tone: forms & 1 != 0,
        event: forms & 2 != 0,
        info: forms & 4 != 0,
        event_lag_ms: below(101),
        info_lag_ms: below(941) as i64 - 500,
        loss_percent: [0, 0, 1, 5, 10][below(5) as usize],
    };
    let truth = keys.iter().map(|k| k.0).collect();
    let heard = sightings(&keys, path, &mut noise);
    (truth, path, heard)
}

fn check(seeds: std::ops::Range<u64>, run: impl Fn(u64) -> Option<(Path, String, String)>) {
    let failures: Vec<_> = seeds.clone().filter_map(|seed| Some((seed, run(seed)?))).collect();
    let shown: Vec<_> = failures.iter().take(6).collect();
    assert!(failures.is_empty(), "{} of {} fail: {shown:#?}", failures.len(), seeds.count());
}

#[test]
fn any_schedule_over_any_path_gives_each_press_once_in_order() {
    check(0..60_000, |seed| {
        let (truth, path, heard) = any(seed);
        let told = play(heard, seed % 4 < 2);
        (told != truth).then_some((path, truth, told))
    });
}

#[test]
fn what_a_stalled_machine_reads_late_is_paired_as_it_was_sent() {
    check(0..20_000, |seed| {
        let (truth, path, mut heard) = any(seed);
        if path.info {
            // An INFO has no clock but its arrival.
            return None;
        }
        let mut noise = Noise::new(!seed);
        heard.sort_by_key(|(at, _)| *at);
        let (mut from, mut until) = (0, 0);
        for (at, _) in &mut heard {
            if *at > until {
                from = *at + noise.bits() % 600;
                until = from + noise.bits() % 500;
            }
            if (from..until).contains(at) {
                *at = until;
            }
        }
        let told = play(heard, true);
        (told != truth).then_some((path, truth, told))
    });
}

#[test]
fn a_tone_too_many_or_too_few_beside_info_costs_one_press_and_shifts_none() {
    let (mut slips, mut extra, mut worst) = (0, 0, 0);
    for seed in 0..6_000u64 {
        let mut noise = Noise::new(seed ^ 0x51d);
        let mut below = |n: u64| noise.bits() % n;
        let info_lag_ms = below(941) as i64 - 500;
        let (mut at, mut last, mut heard, mut here) = (1_000, 0, Vec::new(), 0);
        for _ in 0..40 {
            let key = char::from(b'0' + below(10) as u8);
            match below(40) {
                // Not heard, over a voice.
                0 => here += 1,
                // Heard twice.
                1 => {
                    here += 1;
                    heard.push((at + 30, Heard::Tone { begin: at, lag_ms: 30, key }));
                    heard.push((at + 90, Heard::Tone { begin: at + 60, lag_ms: 30, key }));
                }
                _ => heard.push((at + 28 + below(15), Heard::Tone { begin: at, lag_ms: 28, key })),
            }
            last = (at as i64 + info_lag_ms + below(60) as i64).max(last + 1);
            heard.push((last as u64, Heard::Info { key }));
            at += 160 + below(60);
        }
        let told = play(heard, true).len();
        assert!(told >= 40, "a press that its INFO shows is never lost: seed {seed}");
        (slips, extra, worst) = (slips + here, extra + told - 40, worst.max(told - 40));
    }
    eprintln!("{extra} keys too many for {slips} slips in 6000 calls, at worst {worst} in one");
    assert!(extra <= slips && worst <= 12, "{extra} keys too many for {slips} slips, at worst {worst} in one call");
}

#[test]
fn a_press_that_only_its_info_shows_is_told_at_the_time_that_came_whatever_the_lag() {
    let (start, mut merger) = (Instant::now() + Duration::from_secs(10), Merger::new());
    let at = |ms: u64| start + Duration::from_millis(ms);
    for n in 0..6u64 {
        let key = digit(char::from(b'1' + n as u8));
        merger.handle_inband(at(1_000 * n + 30), 240, PLACE + 8_000 * n, key.clone());
        merger.handle_info(at(1_000 * n + 400), key);
        while merger.poll_press().is_some() {}
    }
    assert!(merger.info_lag.known().is_some_and(|lag| lag.abs_diff(400) <= 2));
    // Its tone was not heard. By the lag it began at 6.0 s, perhaps before a mask that came in between.
    merger.handle_info(at(6_400), digit('9'));
    assert_eq!(merger.poll_press().map(|press| press.onset), Some(at(6_400)));
}
