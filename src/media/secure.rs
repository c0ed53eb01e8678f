//! One leg's encryption: opens what comes, seals what goes. Keys as agreed go in with each [`Security`]; a leg whose keys
//! cannot be used neither sends nor takes anything. Of former peerings the sending side is kept, so that a key that comes
//! back goes on where it was: no packet index is ever used twice.

use super::api::{LegStats, Security};
use crate::guard::Masked;
use crate::rtp::MAX_DATAGRAM;
use crate::srtp::{MAX_GROWTH, Receiver, Rejected, Sender};

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
    /// Keys of the wrong length: nothing passes.
    Broken,
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
}

impl Secure {
    /// Follows what was agreed.
    pub(super) fn set(&mut self, security: &Security) {
        self.state = match security {
            Security::Plain => State::Plain,
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
                        Sender::new(keys.suite, &keys.tx).zip(Receiver::new(keys.suite, &keys.rx)).map(|(tx, rx)| {
                            self.peerings.insert(0, Peering { id: keys.peering, tx, rx });
                            self.peerings.truncate(REMEMBERED);
                        })
                    }
                };
                let room = || Box::new([0; MAX_DATAGRAM + MAX_GROWTH]);
                self.sealing.get_or_insert_with(room);
                self.opening.get_or_insert_with(room);
                if done.is_some() { State::On } else { State::Broken }
            }
        };
    }

    /// Whether anything but encrypted packets is refused.
    pub(super) fn is_on(&self) -> bool {
        self.state != State::Plain
    }

    /// A packet of ours as it goes on the wire; `None`: it must not go.
    pub(super) fn seal<'a>(&'a mut self, packet: Masked<&'a [u8]>, rtcp: bool) -> Option<Masked<&'a [u8]>> {
        match self.state {
            State::Plain => Some(packet),
            State::Broken => None,
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
