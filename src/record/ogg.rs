//! An export as Ogg Opus (RFC 7845): two uncoupled mono streams, customer left and agent right, in one logical stream of
//! mapping family 1, 20 ms a packet. Interleaved 8 kHz samples go in, Ogg pages come out through any `Write`.
//!
//! ```text
//!  packet = TOC, length, frame of the customer's (RFC 6716 appendix B: it says its own length), TOC, frame of the agent's
//! ```

use std::io::{self, Write};

use ogg::{PacketWriteEndInfo, PacketWriter};

use crate::dsp::halfband::{DELAY, Join};
use crate::dsp::opus::Encoder;

/// Bit/s of each voice.
const BITRATE: u32 = 32_000;

/// Samples of a packet at 8 kHz, and at 16 kHz, at which voices are encoded.
const NARROW: usize = 160;
const WIDE: usize = 320;

/// Packets of a page: a second.
const PAGE: u32 = 50;

/// Of 48 kHz, in which Ogg Opus counts: for each sample at 8 kHz.
const PER_SAMPLE: u64 = 6;

/// What comes out late, in samples at 48 kHz: half of what doubling the rate and halving it again takes, and the 2.5 ms
/// that the encoder looks ahead.
const PRE_SKIP: u16 = (DELAY as u16 / 2 + 1) * 3 + 120;

/// One voice.
struct Voice {
    join: Join,
    wide: Vec<i16>,
    encoder: Encoder,
}

impl Voice {
    fn new() -> Self {
        Self { join: Join::new(), wide: Vec::with_capacity(WIDE), encoder: Encoder::new(BITRATE) }
    }

    /// The packet of what has been pushed.
    fn packet(&mut self) -> io::Result<Vec<u8>> {
        let mut packet = vec![0; 400];
        let length = self.encoder.encode(&self.wide, &mut packet);
        self.wide.clear();
        packet.truncate(length);
        // One frame in the packet, or its length would have to be told otherwise.
        match packet.first() {
            Some(toc) if toc & 3 == 0 => Ok(packet),
            _ => Err(io::Error::other("the Opus encoder gave no packet of one frame")),
        }
    }
}

/// An Ogg Opus stream being written.
pub struct OggOpus<W: Write> {
    pages: PacketWriter<'static, W>,
    serial: u32,
    voices: [Voice; 2],
    /// Frames at 8 kHz that went in.
    frames: u64,
    packets: u64,
    waiting: Option<Vec<u8>>,
}

impl<W: Write> OggOpus<W> {
    /// Begins a stream. `serial` names it, `tags` (`NAME=value`) stand in its comment header.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn new(out: W, serial: u32, tags: &[String]) -> io::Result<Self> {
        let mut pages = PacketWriter::new(out);
        let mut head = b"OpusHead\x01\x02".to_vec();
        head.extend_from_slice(&PRE_SKIP.to_le_bytes());
        head.extend_from_slice(&8_000u32.to_le_bytes());
        // No gain; family 1: two streams, none coupled; left is the first, right the second.
        head.extend_from_slice(&[0, 0, 1, 2, 0, 0, 1]);
        pages.write_packet(head, serial, PacketWriteEndInfo::EndPage, 0)?;
        let mut comment = b"OpusTags".to_vec();
        let mut text = |text: &str| {
            comment.extend_from_slice(&(text.len() as u32).to_le_bytes());
            comment.extend_from_slice(text.as_bytes());
        };
        text("tonewall");
        comment.extend_from_slice(&(tags.len() as u32).to_le_bytes());
        for tag in tags {
            comment.extend_from_slice(&(tag.len() as u32).to_le_bytes());
            comment.extend_from_slice(tag.as_bytes());
        }
        pages.write_packet(comment, serial, PacketWriteEndInfo::EndPage, 0)?;
        Ok(Self { pages, serial, voices: [Voice::new(), Voice::new()], frames: 0, packets: 0, waiting: None })
    }

    /// Appends interleaved 16-bit little-endian samples, whole frames.
    ///
    /// # Errors
    /// Those of the output, or of the encoder.
    pub fn audio(&mut self, samples: &[u8]) -> io::Result<()> {
        for frame in samples.as_chunks::<4>().0 {
            self.frames += 1;
            self.push([i16::from_le_bytes([frame[0], frame[1]]), i16::from_le_bytes([frame[2], frame[3]])])?;
        }
        Ok(())
    }

    fn push(&mut self, frame: [i16; 2]) -> io::Result<()> {
        for (voice, sample) in self.voices.iter_mut().zip(frame) {
            voice.wide.extend(voice.join.push(sample, [0, 0]));
        }
        if self.voices[0].wide.len() < WIDE {
            return Ok(());
        }
        let [customer, agent] = &mut self.voices;
        let (mut packet, agent) = (customer.packet()?, agent.packet()?);
        let length = packet.len() - 1;
        let told: Vec<u8> = match length {
            0..252 => vec![length as u8],
            _ => {
                let first = 252 + (length & 3);
                vec![first as u8, ((length - first) / 4) as u8]
            }
        };
        packet.splice(1..1, told);
        packet.extend_from_slice(&agent);
        self.write(false)?;
        self.waiting = Some(packet);
        Ok(())
    }

    /// Writes the packet that waits; the last one ends the stream.
    fn write(&mut self, last: bool) -> io::Result<()> {
        let Some(packet) = self.waiting.take() else { return Ok(()) };
        self.packets += 1;
        let whole = self.packets * (NARROW as u64) * PER_SAMPLE;
        let (end, position) = if last {
            // What is beyond is cut off when it is played (RFC 7845 section 4.4).
            let end = self.frames * PER_SAMPLE + u64::from(PRE_SKIP);
            (PacketWriteEndInfo::EndStream, end.min(whole))
        } else if self.packets.is_multiple_of(u64::from(PAGE)) {
            (PacketWriteEndInfo::EndPage, whole)
        } else {
            (PacketWriteEndInfo::NormalPacket, whole)
        };
        self.pages.write_packet(packet, self.serial, end, position)
    }

    /// Ends the stream. Gives the output and the frames that went in.
    ///
    /// # Errors
    /// As [`OggOpus::audio`].
    pub fn finish(mut self) -> io::Result<(W, u64)> {
        let wanted = self.frames * PER_SAMPLE + u64::from(PRE_SKIP);
        while (self.packets + u64::from(self.waiting.is_some())) * (NARROW as u64) * PER_SAMPLE < wanted {
            self.push([0, 0])?;
        }
        self.write(true)?;
        Ok((self.pages.into_inner(), self.frames))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dsp::opus::{Decoder, LONGEST};

    /// The first packet's length and where it begins, and the rest.
    fn parted(packet: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let (length, begin) = match packet[1] {
            short @ 0..252 => (usize::from(short), 2),
            long => (usize::from(long) + 4 * usize::from(packet[2]), 3),
        };
        let mut first = vec![packet[0]];
        first.extend_from_slice(&packet[begin..begin + length]);
        (first, packet[begin + length..].to_vec())
    }

    #[test]
    fn what_goes_in_comes_out_on_its_side_in_its_time_and_length() {
        // Voices that rise and fall, so that no place looks like another.
        let voice = |from: f64, by: f64| -> Vec<i16> {
            let at = |n: i32| f64::from(n) / 8_000.0;
            (0..24_100)
                .map(|n| (9_000.0 * (std::f64::consts::TAU * (from + by * at(n)) * at(n)).sin()) as i16)
                .collect()
        };
        let said = [voice(300.0, 200.0), voice(1_400.0, -150.0)];
        let frames = 24_100;
        let bytes: Vec<u8> =
            (0..frames).flat_map(|at| [said[0][at].to_le_bytes(), said[1][at].to_le_bytes()].concat()).collect();
        let mut out = OggOpus::new(Vec::new(), 7, &["RECORDING=x".to_owned()]).expect("begun");
        bytes.chunks(3_200).for_each(|part| out.audio(part).expect("written"));
        let (ogg, told) = out.finish().expect("ended");
        assert_eq!(told, frames as u64);
        let mut packets = Vec::new();
        let mut reader = ogg::PacketReader::new(io::Cursor::new(ogg));
        while let Some(packet) = reader.read_packet().expect("a packet") {
            packets.push((packet.absgp_page(), packet.last_in_stream(), packet.data));
        }
        assert!(packets[0].2.starts_with(b"OpusHead") && packets[1].2.starts_with(b"OpusTags"));
        let (end, last, _) = packets.last().expect("packets");
        assert!(*last);
        assert_eq!(*end - u64::from(PRE_SKIP), frames as u64 * 6, "the length is the recording's");
        let mut decoders = [Decoder::new(), Decoder::new()];
        let mut heard = [Vec::new(), Vec::new()];
        for (_, _, packet) in &packets[2..] {
            let (customer, agent) = parted(packet);
            for ((decoder, heard), packet) in decoders.iter_mut().zip(&mut heard).zip([customer, agent]) {
                let mut samples = [0; LONGEST];
                let length = decoder.decode(&packet, &mut samples);
                assert_eq!(length, WIDE);
                heard.extend_from_slice(&samples[..length]);
            }
        }
        for (said, heard) in said.iter().zip(&heard) {
            // Alike at the place that the pre-skip says, and less so elsewhere.
            let alike = |skip: usize| -> f64 {
                let pairs = (0..20_000usize).map(|at| (f64::from(said[at]), f64::from(heard[2 * at + skip])));
                let (mut dot, mut a, mut b) = (0.0, 0.0, 0.0);
                pairs.for_each(|(x, y)| {
                    dot += x * y;
                    a += x * x;
                    b += y * y;
                });
                dot / (a * b).sqrt()
            };
            let skip = usize::from(PRE_SKIP) / 3;
            let best = (0..200).max_by(|a, b| alike(*a).total_cmp(&alike(*b))).expect("one");
            assert!(best.abs_diff(skip) <= 4, "best at {best}, said {skip}");
            assert!(alike(skip) > 0.8, "{}", alike(skip));
        }
    }
}
