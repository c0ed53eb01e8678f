//! One leg's encryption: opens what comes, seals what goes. Keys as agreed go in with each [`Security`]; a leg whose keys
//! cannot be used neither sends nor takes anything. Of former peerings the sending side is kept, so that a key that comes
//! back goes on where it was: no packet index is ever used twice.

use std::time::Instant;

use super::api::{DtlsPeer, LegStats, Security};
use crate::guard::{Masked, flight};
use crate::rtp::MAX_DATAGRAM;
use crate::srtp::{Handshake, MAX_GROWTH, Receiver, Rejected, Sender};

/// Peerings remembered; a leg meets one for each dialog it has had.
const REMEMBERED: usize = 4;

/// Room for one datagram, opened or sealed.
pub(super) type Room = [u8; MAX_DATAGRAM + MAX_GROWTH];

/// What is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    /// Nothing is encrypted.
    #[default]
    Plain,
    /// The first of the peerings is.
    On,
    /// No usable keys, or none yet: nothing passes.
    Closed,
}

struct Peering {
    id: u64,
    tx: Sender,
    rx: Receiver,
}

/// A leg's encryption.
#[derive(Default)]
pub(super) struct Secure {
    state: State,
    peerings: Vec<Peering>,
    sealing: Option<Box<Room>>,
    opening: Option<Box<Room>>,
    handshake: Option<(DtlsPeer, Handshake)>,
}

impl Secure {
    /// Follows what was agreed.
    pub(super) fn set(&mut self, now: Instant, security: &Security) {
        match security {
            Security::Dtls(peer) if self.handshake.as_ref().is_some_and(|(known, _)| known == &**peer) => return,
            _ => self.handshake = None,
        }
        self.state = match security {
            Security::Plain => State::Plain,
            Security::Dtls(peer) => {
                let DtlsPeer { identity, role, fingerprint, .. } = &**peer;
                let handshake = Handshake::new(now, identity.clone(), *role, *fingerprint);
                self.handshake = Some(((**peer).clone(), handshake));
                self.make_room();
                State::Closed
            }
            Security::Srtp(keys) => {
                let known = self.peerings.iter().position(|peering| peering.id == keys.peering);
                let done = match known {
                    Some(at) => {
                        self.peerings[..=at].rotate_right(1);
                        let peering = &mut self.peerings[0];
                        let rx = peering.rx.rekey(keys.suite, &keys.rx);
                        rx.and(peering.tx.rekey(keys.suite, &keys.tx))
                    }
                    None => {
                        let ends = Sender::new(keys.suite, &keys.tx).zip(Receiver::new(keys.suite, &keys.rx));
                        ends.map(|(tx, rx)| self.remember(Peering { id: keys.peering, tx, rx }))
                    }
                };
                self.make_room();
                if done.is_some() { State::On } else { State::Closed }
            }
        };
    }

    fn remember(&mut self, peering: Peering) {
        self.peerings.insert(0, peering);
        self.peerings.truncate(REMEMBERED);
    }

    fn make_room(&mut self) {
        let room = || Box::new([0; MAX_DATAGRAM + MAX_GROWTH]);
        self.sealing.get_or_insert_with(room);
        self.opening.get_or_insert_with(room);
    }

    /// Whether the peer's keys come by a handshake.
    pub(super) fn shakes_hands(&self) -> bool {
        self.handshake.is_some()
    }

    /// Takes a datagram of the handshake, from the signalled address.
    pub(super) fn handle_handshake(&mut self, now: Instant, bytes: &[u8]) {
        if let Some((_, handshake)) = &mut self.handshake {
            handshake.handle_packet(now, bytes);
        }
    }

    /// When the handshake wants time.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.handshake.as_ref().and_then(|(_, handshake)| handshake.poll_timeout())
    }

    /// Gets on with the handshake: sends what it sends, and puts its keys in force. Each handshake's keys are new, so a
    /// former one of the same peer counts no more.
    pub(super) fn go_on(&mut self, now: Instant, mut out: impl FnMut(Masked<&[u8]>)) {
        let (Some((peer, handshake)), Some(room)) = (&mut self.handshake, &mut self.sealing) else { return };
        handshake.handle_timeout(now);
        let Some((suite, theirs, ours)) = flight(now, handshake, &mut room[..], &mut out) else { return };
        let id = peer.peering;
        let Some((tx, rx)) = Sender::new(suite, &ours).zip(Receiver::new(suite, &theirs)) else { return };
        self.peerings.retain(|peering| peering.id != id);
        self.remember(Peering { id, tx, rx });
        self.state = State::On;
    }

    /// Whether anything but encrypted packets is refused.
    pub(super) fn is_on(&self) -> bool {
        self.state != State::Plain
    }

    /// A packet of ours as it goes on the wire; `None`: it must not go.
    pub(super) fn seal<'a>(&'a mut self, packet: Masked<&'a [u8]>, rtcp: bool) -> Option<Masked<&'a [u8]>> {
        match self.state {
            State::Plain => Some(packet),
            State::Closed => None,
            State::On => {
                let sender = &mut self.peerings.first_mut()?.tx;
                let room = &mut self.sealing.as_mut()?[..];
                if rtcp { packet.sealed_report(sender, room) } else { packet.sealed(sender, room) }
            }
        }
    }

    /// Opens what came into a room that is lent, to be given back; drops are counted. `None`: nothing may be made of it.
    pub(super) fn open(&mut self, bytes: &[u8], rtcp: bool, stats: &mut LegStats) -> Option<(Box<Room>, usize)> {
        let receiver = &mut self.peerings.first_mut().filter(|_| self.state == State::On)?.rx;
        let room = &mut self.opening.as_mut()?.get_mut(..bytes.len())?;
        room.copy_from_slice(bytes);
        match if rtcp { receiver.open_rtcp(room) } else { receiver.open_rtp(room) } {
            Ok(length) => Some((self.opening.take()?, length)),
            Err(why) => {
                *match why {
                    Rejected::Malformed => &mut stats.malformed,
                    Rejected::Unauthentic => &mut stats.unauthentic,
                    Rejected::Replayed => &mut stats.replayed,
                } += 1;
                None
            }
        }
    }

    /// Takes the room back.
    pub(super) fn give_back(&mut self, room: Box<Room>) {
        self.opening = Some(room);
    }
}
