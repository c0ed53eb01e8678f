//! Between payloads and samples, with the state that G.722 and Opus keep from packet to packet. [`Ear`] takes a source's
//! packets, puts those of a codec with state in order, and gives 8 kHz samples with what wide audio has above them;
//! [`Voice`] takes such samples and gives payloads. They decide nothing: what goes from one to the other is the path's
//! business, and nothing goes on its own.
//!
//! ```text
//!  payload ─► Ear: order ─► decode ─► split ─┬─ low ───► line, detector, mask, tap ───┬─► Voice: join ─► encode ─► payload
//!                 (G.722, Opus)              └─ high ──► line (left out with the low) ─┘        (G.722, Opus)
//! ```

use arrayvec::ArrayVec;

use super::relay::Arrival;
use super::stream::MAX_PAYLOAD;
use crate::config::Codec;
use crate::dsp::halfband::{Join, Split};
use crate::dsp::{g711, g722, opus};

/// The most samples at 8 kHz in one packet.
pub(super) const LONGEST_HEARD: usize = MAX_PAYLOAD;
/// Packets of a codec with state that wait for one before them.
const WAITING: usize = 12;
/// Wide samples that wait for the rest of an Opus frame: the longest packet heard, and less than one shortest frame.
const QUEUE: usize = 2 * (LONGEST_HEARD + 80);

/// How long a payload lasts, in samples at 8 kHz; 0 when it is none of its codec's.
pub(super) fn length(codec: Codec, payload: &[u8]) -> usize {
    match codec {
        Codec::Pcmu | Codec::Pcma | Codec::G722 => payload.len().min(LONGEST_HEARD),
        Codec::Opus => opus::duration(payload).unwrap_or(0),
        Codec::Foreign(_) => 0,
    }
}

/// Whose turn a packet is, among packets of a codec with state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// It follows what was decoded last.
    Now,
    /// So many packets before it are missing.
    Early(u64),
    /// Its place was given up.
    Late,
}

/// A packet that waits.
struct Waiting {
    number: u64,
    position: u64,
    length: usize,
    bytes: [u8; MAX_PAYLOAD],
}

/// What only codecs with state need.
struct Wide {
    g722: g722::Decoder,
    opus: Option<opus::Decoder>,
    split: Split,
    samples: [i16; 2 * LONGEST_HEARD],
    high: [[i16; 2]; LONGEST_HEARD],
    /// What the decoders have heard last: source, codec, and the number that follows.
    follows: Option<(u32, Codec, u64)>,
    waiting: ArrayVec<Waiting, WAITING>,
}

/// Hears one source.
pub(super) struct Ear {
    low: [i16; LONGEST_HEARD],
    length: usize,
    /// Whether `high` of `wide` belongs to what was heard last.
    is_wide: bool,
    wide: Option<Box<Wide>>,
}

impl Ear {
    pub(super) fn new() -> Self {
        Self { low: [0; LONGEST_HEARD], length: 0, is_wide: false, wide: None }
    }

    /// Makes room for the codecs a source may use.
    pub(super) fn prepare(&mut self, codec: Codec) {
        if codec.is_wide() {
            let wide = self.wide.get_or_insert_with(|| {
                Box::new(Wide {
                    g722: g722::Decoder::new(),
                    opus: None,
                    split: Split::new(),
                    samples: [0; 2 * LONGEST_HEARD],
                    high: [[0; 2]; LONGEST_HEARD],
                    follows: None,
                    waiting: ArrayVec::new(),
                })
            });
            if codec == Codec::Opus {
                wide.opus.get_or_insert_with(opus::Decoder::new);
            }
        }
    }

    /// Whose turn a packet is. A codec without state takes any at any time.
    pub(super) fn turn(&mut self, arrival: &Arrival, codec: Codec) -> Turn {
        let Some(wide) = self.wide.as_mut().filter(|_| codec.is_wide()) else { return Turn::Now };
        match wide.follows {
            Some((generation, of, next)) if generation == arrival.generation && of == codec => {
                match arrival.number.checked_sub(next) {
                    None => Turn::Late,
                    Some(0) => Turn::Now,
                    Some(missing) => Turn::Early(missing),
                }
            }
            _ => {
                // Another source, or another codec of the same: nothing of before holds.
                wide.waiting.clear();
                wide.g722 = g722::Decoder::new();
                if wide.follows.is_some() && wide.opus.is_some() {
                    wide.opus = Some(opus::Decoder::new());
                }
                wide.follows = Some((arrival.generation, codec, arrival.number));
                Turn::Now
            }
        }
    }

    /// Takes note of a packet that is not for a decoder with state, so that nobody waits for it.
    pub(super) fn pass(&mut self, arrival: &Arrival) {
        let Some(wide) = &mut self.wide else { return };
        let Some((generation, _, next)) = &mut wide.follows else { return };
        if *generation == arrival.generation && *next == arrival.number {
            *next += 1;
        } else if *generation == arrival.generation && *next < arrival.number && !wide.waiting.is_empty() {
            self.keep(arrival, 0, &[]);
        }
    }

    /// Decodes a packet, whatever its turn.
    pub(super) fn decode(&mut self, arrival: &Arrival, codec: Codec, payload: &[u8]) {
        if let Some(wide) = self.wide.as_mut().filter(|_| codec.is_wide()) {
            wide.follows = Some((arrival.generation, codec, arrival.number + 1));
        }
        self.listen(codec, payload);
    }

    fn listen(&mut self, codec: Codec, payload: &[u8]) {
        let payload = &payload[..payload.len().min(MAX_PAYLOAD)];
        self.is_wide = codec.is_wide();
        self.length = match codec {
            Codec::Pcmu => fill(&mut self.low, payload, g711::ulaw_decode),
            Codec::Pcma => fill(&mut self.low, payload, g711::alaw_decode),
            Codec::Foreign(_) => 0,
            Codec::G722 | Codec::Opus => {
                let Some(wide) = &mut self.wide else {
                    self.length = 0;
                    return;
                };
                wide.hear(codec, payload, &mut self.low)
            }
        };
    }

    /// Keeps a packet until those before it have come or are given up. `false` when there is no room.
    pub(super) fn keep(&mut self, arrival: &Arrival, position: u64, payload: &[u8]) -> bool {
        let Some(wide) = &mut self.wide else { return false };
        if wide.waiting.iter().any(|waiting| waiting.number == arrival.number) || payload.len() > MAX_PAYLOAD {
            return true;
        }
        let mut waiting = Waiting { number: arrival.number, position, length: payload.len(), bytes: [0; MAX_PAYLOAD] };
        waiting.bytes[..payload.len()].copy_from_slice(payload);
        wide.waiting.try_push(waiting).is_ok()
    }

    /// Decodes the next waiting packet if its turn has come, or in any case if `at_once`. Returns its position.
    pub(super) fn decode_waiting(&mut self, at_once: bool) -> Option<u64> {
        let wide = self.wide.as_mut()?;
        let (generation, codec, next) = wide.follows?;
        let place = (0..wide.waiting.len()).min_by_key(|place| wide.waiting[*place].number)?;
        if wide.waiting[place].number > next && !at_once {
            return None;
        }
        let waiting = wide.waiting.swap_remove(place);
        wide.follows = Some((generation, codec, waiting.number + 1));
        if waiting.length == 0 {
            self.length = 0;
        } else {
            self.listen(codec, &waiting.bytes[..waiting.length]);
        }
        Some(waiting.position)
    }

    /// Gives up what waits.
    pub(super) fn forget(&mut self) {
        if let Some(wide) = &mut self.wide {
            wide.waiting.clear();
        }
    }

    /// What was heard last, at 8 kHz.
    pub(super) fn low(&self) -> &[i16] {
        &self.low[..self.length]
    }

    /// What lies above it; empty for a narrow codec.
    pub(super) fn high(&self) -> &[[i16; 2]] {
        match &self.wide {
            Some(wide) if self.is_wide => &wide.high[..self.length],
            _ => &[],
        }
    }

    /// The G.722 decoder, if the last packet heard was G.722.
    fn g722(&self) -> Option<&g722::Decoder> {
        let wide = self.wide.as_ref().filter(|_| self.is_wide)?;
        matches!(wide.follows, Some((_, Codec::G722, _))).then_some(&wide.g722)
    }
}

impl Wide {
    fn hear(&mut self, codec: Codec, payload: &[u8], low: &mut [i16; LONGEST_HEARD]) -> usize {
        let decoded = match (codec, &mut self.opus) {
            (Codec::Opus, Some(opus)) => opus.decode(payload, &mut self.samples),
            (Codec::G722, _) => self.g722.decode(payload, &mut self.samples),
            _ => 0,
        };
        let pairs = self.samples[..decoded].as_chunks::<2>().0;
        for ((pair, low), high) in pairs.iter().zip(low.iter_mut()).zip(self.high.iter_mut()) {
            (*low, *high) = self.split.push(*pair);
        }
        pairs.len()
    }
}

fn fill(low: &mut [i16; LONGEST_HEARD], payload: &[u8], decode: impl Fn(u8) -> i16) -> usize {
    for (sample, byte) in low.iter_mut().zip(payload) {
        *sample = decode(*byte);
    }
    payload.len().min(LONGEST_HEARD)
}

/// What only codecs with state need.
struct WideVoice {
    join: Join,
    g722: g722::Encoder,
    opus: Option<opus::Encoder>,
    bitrate: u32,
    samples: [i16; QUEUE],
    /// Wide samples that wait in `samples`.
    queued: usize,
}

/// Speaks to one sink.
pub(super) struct Voice {
    wide: Option<Box<WideVoice>>,
    /// The codec whose stream our encoder runs in; `None` when what was sent last was somebody else's payload.
    runs: Option<Codec>,
}

impl Voice {
    pub(super) fn new() -> Self {
        Self { wide: None, runs: None }
    }

    /// Makes room for a codec the sink takes; `bitrate` is the most for Opus, in bit/s.
    pub(super) fn prepare(&mut self, codec: Codec, bitrate: u32) {
        if codec.is_wide() {
            let wide = self.wide.get_or_insert_with(|| {
                Box::new(WideVoice {
                    join: Join::new(),
                    g722: g722::Encoder::new(),
                    opus: None,
                    bitrate,
                    samples: [0; QUEUE],
                    queued: 0,
                })
            });
            if codec == Codec::Opus && (wide.opus.is_none() || wide.bitrate != bitrate) {
                wide.bitrate = bitrate;
                wide.opus = Some(opus::Encoder::new(bitrate));
            }
        }
    }

    /// Takes note that a payload of somebody else's was sent.
    pub(super) fn rest(&mut self) {
        self.runs = None;
    }

    /// Takes up the stream of `codec` where it stands: `heard` is who heard what was sent until now. Does nothing while
    /// it runs.
    pub(super) fn take_up(&mut self, codec: Codec, heard: &Ear) {
        if self.runs == Some(codec) {
            return;
        }
        self.runs = Some(codec);
        let Some(wide) = &mut self.wide else { return };
        wide.join = Join::new();
        wide.queued = 0;
        match (codec, heard.g722()) {
            (Codec::G722, Some(decoder)) => wide.g722.follow(decoder),
            (Codec::G722, None) => wide.g722 = g722::Encoder::new(),
            (Codec::Opus, _) => wide.opus = Some(opus::Encoder::new(wide.bitrate)),
            (Codec::Pcmu | Codec::Pcma | Codec::Foreign(_), _) => {}
        }
    }

    /// Encodes one packet; Opus takes 10, 20 or 40 ms. Returns its length, 0 when there is none.
    pub(super) fn encode(&mut self, codec: Codec, low: &[i16], high: &[[i16; 2]], room: &mut [u8]) -> usize {
        match codec {
            Codec::Pcmu => write(room, low, g711::ulaw_encode),
            Codec::Pcma => write(room, low, g711::alaw_encode),
            Codec::Foreign(_) => 0,
            Codec::G722 | Codec::Opus => {
                let Some(wide) = &mut self.wide else { return 0 };
                wide.queued = 0;
                wide.join(low, high);
                let count = std::mem::take(&mut wide.queued);
                wide.encode(codec, count, room)
            }
        }
    }

    /// Lays samples in the queue for Opus frames.
    pub(super) fn queue(&mut self, low: &[i16], high: &[[i16; 2]]) {
        if let Some(wide) = &mut self.wide {
            wide.join(low, high);
        }
    }

    /// Samples in the queue, at 8 kHz.
    pub(super) fn queued(&self) -> usize {
        self.wide.as_ref().map_or(0, |wide| wide.queued / 2)
    }

    /// Encodes the first `frame` samples of the queue, counted at 8 kHz.
    pub(super) fn encode_queued(&mut self, frame: usize, room: &mut [u8]) -> usize {
        let Some(wide) = self.wide.as_mut().filter(|wide| wide.queued >= 2 * frame) else { return 0 };
        let length = wide.encode(Codec::Opus, 2 * frame, room);
        wide.samples.copy_within(2 * frame..wide.queued, 0);
        wide.queued -= 2 * frame;
        length
    }
}

impl WideVoice {
    fn join(&mut self, low: &[i16], high: &[[i16; 2]]) {
        for (n, low) in low.iter().enumerate() {
            let pair = self.join.push(*low, high.get(n).copied().unwrap_or_default());
            if let Some(room) = self.samples.get_mut(self.queued..self.queued + 2) {
                room.copy_from_slice(&pair);
                self.queued += 2;
            }
        }
    }

    fn encode(&mut self, codec: Codec, count: usize, room: &mut [u8]) -> usize {
        let samples = &self.samples[..count];
        match (codec, &mut self.opus) {
            (Codec::Opus, Some(opus)) => opus.encode(samples, room),
            (Codec::G722, _) => self.g722.encode(samples, room),
            _ => 0,
        }
    }
}

fn write(room: &mut [u8], low: &[i16], encode: impl Fn(i16) -> u8) -> usize {
    for (byte, sample) in room.iter_mut().zip(low) {
        *byte = encode(*sample);
    }
    low.len().min(room.len())
}
