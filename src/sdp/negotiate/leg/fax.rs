//! Our offers and answers of a fax stream in place of the audio. The place of the stream, the session's version and the
//! numbers of the audio outlive it: the next description of audio goes on from them. Whether the trunk takes fax is asked
//! when it is offered; an agreement stands, and what flows by it is the guard's affair.

use super::{Declared, LegSession, wish_of};
use crate::sdp::negotiate::fax::{self, Fax};
use crate::sdp::negotiate::formats::{Media, Receive, Transmit};
use crate::sdp::negotiate::peer::{Peer, refuse};
use crate::sdp::negotiate::policy::Policy;
use crate::sdp::negotiate::refusal::Refusal;
use crate::sdp::{Direction, MediaLine, Session};

impl LegSession {
    /// Offers the other peer's fax stream.
    pub(super) fn offer_fax(&mut self, other: &Peer, fax: &Fax, policy: &Policy) -> Result<Session, Refusal> {
        fax::allowed(policy)?;
        let layout = self.layout.clone();
        let declared = declared(fax.clone(), (self.chosen, layout), other.direction, policy);
        let session = self.print(&declared);
        self.offered = Some(declared);
        Ok(session)
    }

    /// Reads the answer to our offer of fax.
    pub(super) fn accept_fax(
        &mut self,
        answer: &Session,
        offer: &Declared,
        policy: &Policy,
    ) -> Result<(Peer, Media), Refusal> {
        let peer = fax::read(answer, offer.chosen, policy)?;
        self.layout = offer.layout.clone();
        let line = self.line(offer);
        match self.layout.get_mut(offer.chosen) {
            Some(place) => *place = line,
            None => self.layout = vec![line],
        }
        self.chosen = offer.chosen;
        let media = agreed(&peer, peer.direction.and(offer.direction.reversed()));
        self.media = Some(media.clone());
        Ok((peer, media))
    }

    /// Answers the peer's offer of fax with what the other peer made of it.
    pub(super) fn answer_fax(
        &mut self,
        peer: &Peer,
        other: Option<&Peer>,
        policy: &Policy,
    ) -> Result<(Session, Media), Refusal> {
        let fax = other.and_then(|other| other.fax.clone().map(|fax| (other, fax)));
        let (other, fax) = fax.ok_or_else(|| refuse(304, "fax is not taken where the call goes"))?;
        let off = |(index, line): (usize, &MediaLine)| match index == peer.chosen {
            true => line.clone(),
            false => MediaLine { port: 0, ..line.clone() },
        };
        let layout: Vec<_> = peer.layout.iter().enumerate().map(off).collect();
        let refused = fax.refused;
        let declared = declared(fax, (peer.chosen, layout), peer.direction.answered(other.direction), policy);
        self.offered = None;
        self.layout = declared.layout.clone();
        self.chosen = declared.chosen;
        let session = self.print(&declared);
        let mut media = agreed(peer, declared.direction.reversed());
        if refused {
            (media.fax, media.send, media.receive) = (false, false, false);
        }
        self.media = Some(media.clone());
        Ok((session, media))
    }
}

fn declared(fax: Fax, place: (usize, Vec<MediaLine>), direction: Direction, policy: &Policy) -> Declared {
    let (chosen, layout) = place;
    Declared {
        chosen,
        layout,
        protocol: "udptl",
        keys: Default::default(),
        dtls: None,
        rtcp_mux: false,
        audio: Default::default(),
        events: Default::default(),
        ptime_ms: policy.ptime_ms,
        maxptime_ms: None,
        opus: wish_of(None),
        comfort_noise: None,
        parameters: Vec::new(),
        fax: Some(fax),
        direction,
    }
}

/// The agreement, `flow` as the peer sees it.
fn agreed(peer: &Peer, flow: Direction) -> Media {
    let refused = peer.fax.as_ref().is_none_or(|fax| fax.refused);
    Media {
        remote_rtp: peer.rtp,
        remote_rtcp: None,
        send: flow.receives() && peer.rtp.is_some(),
        receive: flow.sends() && !refused,
        rx: Receive::default(),
        tx: Transmit::default(),
        srtp: None,
        dtls: None,
        rtcp_mux: false,
        latch: false,
        fax: !refused,
    }
}
