//! Puts every attacker on what a sink heard, with the best knowledge of where each key was, and counts what they find.
//! What was sent, the keys with their places, and what was heard go in; [`Findings`] come out, which hold counts and
//! never a digit.

use super::attack::{LeastSquares, decode, template};
use super::keys::{Form, Sent};
use super::spandsp::Spandsp;

/// What the attackers found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Findings {
    /// Keys that sounded, at whose places the attackers looked.
    pub places: usize,
    /// Right guesses of the least-squares attacker.
    pub least_squares: usize,
    /// Right guesses of the zero-phase template.
    pub template: usize,
    /// Digits our own ordinary decoder reads.
    pub decoded: usize,
    /// Digits spandsp reads; `None` when it is not installed.
    pub spandsp: Option<usize>,
}

impl std::ops::AddAssign for Findings {
    fn add_assign(&mut self, other: Self) {
        self.places += other.places;
        self.least_squares += other.least_squares;
        self.template += other.template;
        self.decoded += other.decoded;
        self.spandsp = match (self.spandsp, other.spandsp) {
            (Some(a), Some(b)) => Some(a + b),
            (one, None) | (None, one) => one,
        };
    }
}

impl Findings {
    /// Share of right least-squares guesses; chance is 0.1.
    pub fn least_squares_share(&self) -> f64 {
        if self.places == 0 { 0.0 } else { self.least_squares as f64 / self.places as f64 }
    }

    /// Right guesses to expect of somebody who knows nothing.
    pub fn chance(&self) -> f64 {
        self.places as f64 / 10.0
    }

    /// Whether any decoder read any digit.
    pub fn nothing_decoded(&self) -> bool {
        self.decoded == 0 && self.spandsp.unwrap_or(0) == 0
    }
}

/// How long after a key's end its sound may still come out of a delay line, in samples (40 ms).
const LATE: usize = 320;

/// The attackers, ready.
pub struct Attackers {
    least_squares: LeastSquares,
    spandsp: Result<Spandsp, String>,
}

impl Default for Attackers {
    fn default() -> Self {
        Self::new()
    }
}

impl Attackers {
    /// Prepares them; spandsp takes part if its library can be loaded.
    pub fn new() -> Self {
        Self { least_squares: LeastSquares::new(), spandsp: Spandsp::load() }
    }

    /// Why spandsp takes no part, if it does not; to be printed.
    pub fn missing(&self) -> Option<&str> {
        self.spandsp.as_ref().err().map(String::as_str)
    }

    /// Listens for digits without knowing where any was.
    pub fn listen(&self, heard: &[i16]) -> Findings {
        let decoded = decode(heard).len();
        let spandsp = self.spandsp.as_ref().ok().map(|s| s.decode(heard).len());
        Findings { decoded, spandsp, ..Findings::default() }
    }

    /// Listens, and guesses each key of `keyed` that sounded; `heard[n]` is what was sent as `sent[n + lag]`.
    pub fn attack(&self, heard: &[i16], keyed: &[Sent], lag: i64) -> Findings {
        let mut findings = self.listen(heard);
        for (count, key) in keyed.iter().filter(|k| k.press.form != Form::Info).enumerate() {
            let Ok(onset) = usize::try_from(key.onset as i64 - lag) else { continue };
            if onset >= heard.len() {
                continue;
            }
            let truth = key.press.digit.expose_event();
            // Where nothing at all is left, any answer is as good as another: they take turns.
            let fallback = (count % 10) as u8;
            let length = (key.end - key.onset) as usize;
            findings.places += 1;
            // What comes later is the next key's; it would only lead astray.
            let own = &heard[..heard.len().min(onset + length + LATE)];
            findings.least_squares += usize::from(self.least_squares.guess(own, onset, fallback).key == truth);
            findings.template += usize::from(template(own, onset, length, LATE, fallback).key == truth);
        }
        findings
    }
}

/// Samples compared to find a lag: half a second.
const COMPARED: usize = 4_000;
/// Furthest lag looked for, either way: two seconds.
const FURTHEST: i64 = 16_000;

/// By how many samples `heard` runs behind the start of `sent`: `heard[n]` is `sent[n + lag]`, by the best correlation of
/// half a second of `heard` from sample `from` on. `None` when that stretch is silent or too short.
pub fn lag(sent: &[i16], heard: &[i16], from: usize) -> Option<i64> {
    let stretch: Vec<f32> = heard.get(from..from + COMPARED)?.iter().map(|s| f32::from(*s)).collect();
    if stretch.iter().all(|s| *s == 0.0) {
        return None;
    }
    let sent: Vec<f32> = sent.iter().map(|s| f32::from(*s)).collect();
    let mut energy = vec![0.0f64; sent.len() + 1];
    for (n, s) in sent.iter().enumerate() {
        energy[n + 1] = energy[n] + f64::from(s * s);
    }
    let at = |lag: i64| {
        let start = usize::try_from(from as i64 + lag).ok()?;
        let other = sent.get(start..start + COMPARED)?;
        let product: f32 = stretch.iter().zip(other).map(|(a, b)| a * b).sum();
        let energy = energy[start + COMPARED] - energy[start];
        (energy > 0.0).then(|| f64::from(product) / energy.sqrt())
    };
    (-FURTHEST..=FURTHEST)
        .filter_map(|lag| at(lag).map(|score| (lag, score)))
        .max_by(|a, b| a.1.total_cmp(&b.1))
        .map(|(lag, _)| lag)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Random;
    use crate::dsp::noise::Noise;
    use crate::testkit::keys::random_digits;
    use rand::SeedableRng;

    #[test]
    fn a_lag_is_found_either_way() {
        let mut noise = [0i16; 24_000];
        Noise::new(1).fill(100.0, &mut noise);
        assert_eq!(lag(&noise, &noise[500..], 4_000), Some(500));
        assert_eq!(lag(&noise[700..], &noise, 4_000), Some(-700));
        assert_eq!(lag(&noise, &[0; 24_000], 4_000), None);
    }

    #[test]
    fn the_attackers_find_everything_on_an_open_line() {
        use crate::config::Codec;
        use crate::testkit::heard::Heard;
        use crate::testkit::rtp_peer::{RtpPeer, Toward};
        use std::time::{Duration, Instant};

        #[allow(clippy::disallowed_methods)]
        let t0 = Instant::now();
        let mut random = Random::seed_from_u64(3);
        let mut peer = RtpPeer::new(&mut random);
        let mut heard = Heard::default();
        heard.expect_audio(8, Codec::Pcma);
        let rtp = "10.0.0.1:4000".parse().unwrap();
        peer.set_toward(
            t0,
            Some(Toward { rtp, audio: (8, Codec::Pcma), events: None, red: None, ptime_ms: 20, send: true }),
        );
        peer.press(200, random_digits(&mut random, 40, Form::Tone, 50..=100, 50..=80));
        for ms in (0..8_000).step_by(20) {
            let now = t0 + Duration::from_millis(ms);
            peer.handle_timeout(now);
            while let Some((_, bytes)) = peer.poll_transmit() {
                heard.handle_rtp(now, &bytes);
            }
        }
        let attackers = Attackers::new();
        if let Some(why) = attackers.missing() {
            eprintln!("spandsp takes no part: {why}");
        }
        let found = attackers.attack(&heard.samples(), peer.keyed(), 0);
        assert_eq!(found.places, 40);
        assert!(found.least_squares >= 38, "{found:?}");
        assert!(found.template >= 38, "{found:?}");
        assert!(found.decoded >= 36, "{found:?}");
        assert!(found.spandsp.is_none_or(|n| n >= 36), "{found:?}");
    }
}
