//! The unguarded path: each packet goes on at once with its own payload bytes, its place rewritten into our stream.
//! What is left out on the way (events to a leg without them) leaves no hole in the sequence.
//!
//! ```text
//! their number  10 11 12 13 |(new source) 900 901      out = number + shift; a packet left out lowers the shift,
//! our sequence  70 71  - 72 |              73  74      a new source sets it anew
//! ```

use std::time::Instant;

use super::stream::{Place, Stream};

/// A packet's place in its source, as the receiving side has found it.
#[derive(Debug, Clone, Copy)]
pub struct Arrival {
    /// When it came, at the latest when it was read.
    pub came: Instant,
    /// Counts the leg's sources: changes with SSRC, and when a source restarts.
    pub generation: u32,
    /// The packet's number in its source, without wrapping.
    pub number: u64,
    /// Its RTP timestamp.
    pub timestamp: u32,
    /// The timestamp in samples at 8 kHz, whatever the codec's clock; continuous within a generation.
    pub at: u32,
    /// Whether `at` counts with the audio's clock: always for audio, for events where both clocks are one.
    pub in_step: bool,
    /// Its marker bit.
    pub marker: bool,
}

/// How their numbers and times become ours.
#[derive(Debug, Clone)]
pub(super) struct Relay {
    /// `None` until the next packet fixes it anew.
    map: Option<Map>,
}

#[derive(Debug, Clone, Copy)]
struct Map {
    generation: u32,
    /// Packets before this one belong to what was before.
    first: u64,
    shift: u64,
    time: u32,
    /// The newest packet left out, and the shift for packets before it.
    left_out: Option<(u64, u64)>,
    newest: u64,
}

impl Relay {
    pub(super) fn new() -> Self {
        Self { map: None }
    }

    /// The next packet begins a new stretch of ours.
    pub(super) fn rebase(&mut self) {
        self.map = None;
    }

    /// Whether `arrival` would begin a new stretch.
    fn begins(&self, arrival: &Arrival) -> bool {
        self.map.is_none_or(|map| map.generation != arrival.generation)
    }

    /// Our place for a packet that goes on; `None` for one that is too late to have a place.
    pub(super) fn place(&mut self, now: Instant, arrival: &Arrival, stream: &Stream) -> Option<Place> {
        let begins = self.begins(arrival);
        if begins {
            self.map = Some(Map {
                generation: arrival.generation,
                first: arrival.number,
                shift: stream.next_sequence().wrapping_sub(arrival.number),
                time: stream.resume_at(now).wrapping_sub(arrival.at),
                left_out: None,
                newest: arrival.number,
            });
        }
        let map = self.map.as_mut()?;
        if arrival.number < map.first {
            return None;
        }
        map.newest = map.newest.max(arrival.number);
        let shift = match map.left_out {
            Some((at, before)) if arrival.number < at => before,
            _ => map.shift,
        };
        // A receiver may settle anew where our stream has a new source.
        let marker = arrival.marker || (begins && stream.last_sent().is_some());
        let timestamp = arrival.at.wrapping_add(map.time);
        Some(Place { sequence: arrival.number.wrapping_add(shift), timestamp, marker })
    }

    /// Takes note of a packet that does not go on.
    pub(super) fn leave_out(&mut self, arrival: &Arrival) {
        let Some(map) = self.map.as_mut().filter(|map| map.generation == arrival.generation) else { return };
        if arrival.number > map.newest {
            map.newest = arrival.number;
            map.left_out = Some((arrival.number, map.shift));
            map.shift = map.shift.wrapping_sub(1);
        }
    }

    /// Takes note that a packet of ours was put in after the newest of theirs.
    pub(super) fn put_in(&mut self) {
        if let Some(map) = &mut self.map {
            map.shift = map.shift.wrapping_add(1);
        }
    }

    /// Whether packets of this source have a place already.
    pub(super) fn knows(&self, arrival: &Arrival) -> bool {
        !self.begins(arrival)
    }

    /// Our time for theirs, when the map is known.
    pub(super) fn time_of(&self, arrival: &Arrival) -> Option<u32> {
        let map = self.map.filter(|map| map.generation == arrival.generation)?;
        Some(arrival.at.wrapping_add(map.time))
    }
}
