//! The proof that media went through the guard, as a type.

use super::tap::{BLOCK_FRAMES, Block};
use crate::base::ids::Leg;
use crate::config::Codec;
use crate::dsp::g711;
use crate::rtp::{HEADER_LEN, Header};
use crate::srtp;

/// Media that has been through the guard: relayed because policy lets it pass, or masked. Only `guard` can make one;
/// the send path, the recorder and the fork accept nothing else, so unguarded media cannot reach a sink.
#[derive(Clone, Copy)]
pub struct Masked<T>(T);

impl<T> Masked<T> {
    /// Marks `media` as having passed the guard's decision.
    pub(in crate::guard) const fn new(media: T) -> Self {
        Self(media)
    }

    /// Marks `media` for a unit test of a sink. Not in the built product.
    #[cfg(test)]
    pub(crate) const fn for_test(media: T) -> Self {
        Self(media)
    }

    /// The media, to be read and sent.
    pub const fn get(&self) -> &T {
        &self.0
    }

    /// The media, out of its proof.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl Masked<Box<Block>> {
    /// A block out of a sealed recording, which took nothing but masked blocks. `record::reopen` alone calls this, for what
    /// has authenticated and whose self-audit was clean; `tests/architecture.rs` holds it to that.
    pub(crate) fn reopened(samples: [i16; BLOCK_FRAMES * 2]) -> Self {
        Self(Box::new(Block { samples, paused: false }))
    }

    /// The same block for another sink.
    pub fn share(&self) -> Self {
        Self(self.0.clone())
    }

    /// Part `part` of `parts` of one side as an RTP packet of G.711 in `room`. `None`: the block is a gap, the codec is no
    /// G.711, or there is too little room.
    pub fn packet<'r>(
        &self,
        (leg, part, parts): (Leg, usize, usize),
        header: Header,
        law: Codec,
        room: &'r mut [u8],
    ) -> Option<Masked<&'r [u8]>> {
        if self.0.paused {
            return None;
        }
        let encode = match law {
            Codec::Pcmu => g711::ulaw_encode,
            Codec::Pcma => g711::alaw_encode,
            Codec::G722 | Codec::Opus | Codec::Foreign(_) => return None,
        };
        let frames = self.0.samples.as_chunks::<2>().0;
        let each = frames.len() / parts.max(1);
        let frames = frames.get(part * each..(part + 1) * each)?;
        let room = room.get_mut(..HEADER_LEN + each)?;
        let (head, payload) = room.split_first_chunk_mut::<HEADER_LEN>()?;
        header.write(head);
        for (byte, frame) in payload.iter_mut().zip(frames) {
            *byte = encode(frame[leg.index()]);
        }
        Some(Masked(room))
    }
}

impl Masked<&[u8]> {
    /// The same RTP packet sealed for the wire: what is masked stays masked under its encryption. `None` when `sender`
    /// will not seal it; it must not be sent then.
    pub fn sealed<'r>(self, sender: &mut srtp::Sender, room: &'r mut [u8]) -> Option<Masked<&'r [u8]>> {
        sender.seal_rtp(self.0, room).map(Masked)
    }

    /// The same RTCP compound sealed for the wire.
    pub fn sealed_report<'r>(self, sender: &mut srtp::Sender, room: &'r mut [u8]) -> Option<Masked<&'r [u8]>> {
        sender.seal_rtcp(self.0, room).map(Masked)
    }
}

impl<T> std::fmt::Debug for Masked<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Masked(..)")
    }
}
