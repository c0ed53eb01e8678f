//! What a call is whatever its phase: who it is, where it came from and goes to, its media session and its protection.
//! Phases borrow it; only [`Core::finish`] ends it, and frees everything it holds.

use std::cell::Cell;
use std::net::SocketAddr;
use std::time::Instant;

use super::bodies;
use super::crossing::{self, Facts};
use super::policy::Wishes;
use super::ports::Pair;
use super::protection::Protection;
use super::recorders::{self, Seen};
use super::shared::Shared;
use crate::base::ids::{CallId, Leg, SessionId};
use crate::config::{Codec, Foreign, GuardMode, MediaPlace, TrunkId};
use crate::media::Command;
use crate::obs::event::{EndCause, EventKind};
use crate::sdp::{LegSession, Media, Policy};
use crate::sip::msg::Headers;

/// The lasting part of a call.
pub(super) struct Core {
    pub(super) id: CallId,
    pub(super) facts: Facts,
    /// The leg the call came in on.
    pub(super) caller_leg: Leg,
    /// Trunk per leg: customer, agent.
    pub(super) trunks: [TrunkId; 2],
    pub(super) started: Instant,
    pub(super) session: SessionId,
    pub(super) ports: Pair,
    /// Where its media is taken, per leg.
    pub(super) places: [MediaPlace; 2],
    pub(super) protection: Protection,
    /// The codec agreed on per leg.
    pub(super) codecs: [Cell<Option<Codec>>; 2],
    /// Headers of the caller's INVITE that recorders are told of.
    pub(super) carried: Vec<(String, String)>,
    /// SIP Call-ID per leg.
    pub(super) call_ids: [Option<String>; 2],
    /// Something that the call is found by has changed.
    pub(super) renamed: bool,
    /// The outbound trunk this call is counted on.
    counted: Option<TrunkId>,
    /// Our tags, to be buried with the call.
    tags: Vec<String>,
}

/// Why a call's media could not be made.
#[derive(Debug, Clone, Copy)]
pub(super) enum Unmade {
    /// Somebody else has its ports, which rest for long.
    PortsTaken,
    /// The node has no descriptor to spare.
    NoRoom,
}

/// What a new call is made of.
pub(super) struct Beginning {
    pub(super) facts: Facts,
    pub(super) from: TrunkId,
    pub(super) to: TrunkId,
    pub(super) ports: Pair,
    pub(super) call_id: String,
    pub(super) carried: Vec<(String, String)>,
}

impl Core {
    /// A call comes in: orders its media session, guarded from the first packet on.
    pub(super) fn begin(now: Instant, s: &mut Shared, beginning: Beginning) -> Core {
        let Beginning { facts, from, to, ports, call_id, carried } = beginning;
        let id = CallId::draw(&mut s.random);
        let session = s.next_session();
        let caller_leg = crossing::leg_of(&s.config.trunks[from.0]);
        let mut trunks = [to; 2];
        trunks[caller_leg.index()] = from;
        let mut call_ids = [None, None];
        call_ids[caller_leg.index()] = Some(call_id);
        let trunk = |leg: Leg| &s.config.trunks[trunks[leg.index()].0];
        let protection = Protection::new(id, session, Wishes::of(trunk(Leg::Customer), trunk(Leg::Agent)));
        let (toward_agent, toward_customer) = protection.guards();
        let create = Command::Create {
            session,
            ports,
            allowed: [trunk(Leg::Customer).media.clone(), trunk(Leg::Agent).media.clone()],
            toward_agent,
            toward_customer,
            inactivity_ms: u32::try_from(s.config.media.inactivity.as_millis()).unwrap_or(u32::MAX),
            seed: rand::RngExt::random(&mut s.random),
        };
        let started = EventKind::CallStarted {
            from_trunk: s.config.trunks[from.0].name.clone(),
            to_trunk: s.config.trunks[to.0].name.clone(),
            caller: facts.caller.clone(),
            called: facts.called.clone(),
        };
        s.out.media(create);
        s.out.event(id, started);
        s.load[from.0] += 1;
        Core {
            id,
            facts,
            caller_leg,
            trunks,
            started: now,
            session,
            ports,
            places: trunks.map(|trunk| s.config.media_of(trunk)),
            protection,
            codecs: Default::default(),
            carried,
            call_ids,
            renamed: true,
            counted: None,
            tags: Vec::new(),
        }
    }

    /// The call goes out on `trunk` now, and no more on the one tried before. Its protection follows: another carrier
    /// may ask for another guard, another PBX for other star codes.
    pub(super) fn goes_to(&mut self, now: Instant, s: &mut Shared, trunk: TrunkId) {
        self.uncount(s);
        s.load[trunk.0] += 1;
        self.counted = Some(trunk);
        let place = &mut self.trunks[self.caller_leg.other().index()];
        if std::mem::replace(place, trunk) != trunk {
            self.allow(s, self.caller_leg.other());
            self.follow(now, s);
        }
    }

    /// The media of `leg` may come from and go to its trunk's networks, and no others.
    fn allow(&self, s: &mut Shared, leg: Leg) {
        let networks = s.config.trunks[self.trunk(leg).0].media.clone();
        s.out.media(Command::SetAllowed { session: self.session, leg, networks });
    }

    /// The protection follows the trunks.
    fn follow(&mut self, now: Instant, s: &mut Shared) {
        let config = &s.config;
        let of = |leg: Leg| &config.trunks[self.trunks[leg.index()].0];
        let wishes = Wishes::of(of(Leg::Customer), of(Leg::Agent));
        self.protection.follow(now, wishes, &mut s.out);
    }

    /// A leg has a new other end: `user`, on `trunk`, in the dialog of `call_id`. What protects the call stays as it
    /// is, but for the star codes of another PBX.
    pub(super) fn moves(&mut self, now: Instant, s: &mut Shared, to: (Leg, TrunkId), call_id: &str, user: &str) {
        let (leg, trunk) = to;
        if leg != self.caller_leg {
            self.goes_to(now, s, trunk);
            self.facts.called = crossing::shown(user);
        } else {
            let old = std::mem::replace(&mut self.trunks[leg.index()], trunk);
            s.load[old.0] -= 1;
            s.load[trunk.0] += 1;
            if old != trunk {
                self.allow(s, leg);
                self.follow(now, s);
            }
            self.facts.caller = crossing::shown(user);
        }
        self.call_ids[leg.index()] = Some(call_id.to_owned());
        self.renamed = true;
        s.recorders.moves(self.id);
    }

    /// The peer of `leg` names the call in a message of its.
    pub(super) fn learn(&mut self, s: &Shared, leg: Leg, headers: &Headers) {
        let call_header = s.config.trunks[self.trunk(leg).0].call_header.as_deref();
        self.renamed |= self.facts.learn(headers, call_header);
    }

    /// User part of the far end of a leg: who called on the leg the call came in on, who is called on the other.
    pub(super) fn far_end(&self, leg: Leg) -> &str {
        if leg == self.caller_leg { &self.facts.caller } else { &self.facts.called }
    }

    /// A dialog of the call has ended while the call goes on: a crossing BYE still gets its 200.
    pub(super) fn bury_tag(&mut self, now: Instant, s: &mut Shared, tag: &str) {
        self.tags.retain(|known| known != tag);
        s.tags.remove(tag);
        s.remains.bury_tag(now, tag.to_owned());
    }

    /// A dialog goes on in another call: its tag is no more ours to bury.
    pub(super) fn gives_away(&mut self, tag: &str) {
        self.tags.retain(|known| known != tag);
    }

    fn uncount(&mut self, s: &mut Shared) {
        if let Some(trunk) = self.counted.take() {
            s.load[trunk.0] -= 1;
        }
    }

    /// The trunk of a leg.
    pub(super) fn trunk(&self, leg: Leg) -> TrunkId {
        self.trunks[leg.index()]
    }

    /// What the trunk of a leg allows in SDP: nothing that cannot be masked where the mask is in force or may come
    /// unasked.
    pub(super) fn policy<'a>(&self, s: &'a Shared, leg: Leg) -> &'a Policy {
        self.policy_of(s, self.trunk(leg))
    }

    /// The same for a trunk that a leg may come to.
    pub(super) fn policy_of<'a>(&self, s: &'a Shared, trunk: TrunkId) -> &'a Policy {
        let of = if self.protection.masks() { &s.guarded_policies } else { &s.policies };
        &of[trunk.0]
    }

    /// Whether telephone-event is wanted on a leg even when the other has none: where all digits are withheld anyway,
    /// they are better withheld as events than as tones, and what is released again travels best as events.
    pub(super) fn keep_events(&self, s: &Shared, leg: Leg) -> bool {
        match leg {
            Leg::Customer => matches!(self.protection.mode(), GuardMode::Always | GuardMode::Auto),
            Leg::Agent => {
                self.protection.mode() == GuardMode::Auto || s.config.trunks[self.trunk(leg).0].star_codes.is_some()
            }
        }
    }

    /// Our side of a leg's session, before anything was offered.
    pub(super) fn leg_session(&self, s: &mut Shared, leg: Leg) -> LegSession {
        LegSession::new(&mut s.random, self.media_address(leg))
    }

    /// Where the media of a leg is taken, as its peer is told.
    pub(super) fn media_address(&self, leg: Leg) -> SocketAddr {
        SocketAddr::new(self.places[leg.index()].advertise, self.ports[leg.index()])
    }

    /// Orders what was agreed on a leg.
    pub(super) fn agreed(&self, s: &mut Shared, leg: Leg, media: &Media) {
        let fax = || Foreign::new("T38", 8_000, 1).filter(|_| media.fax).map(Codec::Foreign);
        let codec = media.tx.audio.first().map(|audio| audio.codec).or_else(fax);
        let before = self.codecs[leg.index()].replace(codec);
        if let Some(codec) = codec.filter(|codec| !codec.can_be_masked() && before != Some(*codec)) {
            s.out.event(self.id, EventKind::Unmaskable { leg, codec: codec.name().to_owned() });
        }
        let unmaskable = self.codecs.iter().filter_map(Cell::get).any(|codec| !codec.can_be_masked());
        self.protection.carries_unmaskable(unmaskable, &mut s.out);
        s.out.media(Command::SetLeg {
            session: self.session,
            leg,
            media: bodies::leg_media(media, s.identity.as_ref()),
        });
    }

    /// What recorders are told that changes with the call; `held`: whose peer holds, per leg.
    pub(super) fn seen(&self, held: [bool; 2]) -> Seen {
        Seen {
            paused: self.protection.paused(),
            held,
            far: [Leg::Customer, Leg::Agent].map(|leg| self.far_end(leg).to_owned()),
            call_ids: self.call_ids.clone(),
            codecs: [0, 1].map(|at: usize| self.codecs[at].get().map(|codec| codec.name().to_owned())),
        }
    }

    /// A fresh tag of ours on `leg`.
    pub(super) fn new_tag(&mut self, s: &mut Shared, leg: Leg) -> String {
        let tag = s.new_tag(self.id, leg);
        self.tags.push(tag.clone());
        tag
    }

    /// Notes a tag of ours that a message of ours already carries.
    pub(super) fn own_tag(&mut self, s: &mut Shared, leg: Leg, tag: &str) {
        s.tags.insert(tag.to_owned(), (self.id, leg));
        self.tags.push(tag.to_owned());
    }

    /// As if the call had not begun: nobody has heard of it, and its media could not be made.
    pub(super) fn undo(&mut self, now: Instant, s: &mut Shared, why: Unmade) {
        s.out.media.retain(|order| order.session() != self.session);
        s.out.events.retain(|(call, _)| *call != Some(self.id));
        match why {
            Unmade::PortsTaken => s.ports.leave(now, self.ports),
            Unmade::NoRoom => s.ports.give_back(now, self.ports),
        }
        for tag in self.tags.drain(..) {
            s.tags.remove(&tag);
        }
        self.uncount(s);
        s.load[self.trunk(self.caller_leg).0] -= 1;
    }

    /// The call is over: frees ports and media, closes the recording, wipes what was being keyed, tells why.
    pub(super) fn finish(
        &mut self,
        now: Instant,
        s: &mut Shared,
        cause: EndCause,
        status: Option<u16>,
        answered: Option<Instant>,
    ) {
        let recording = self.protection.end(now, &mut s.out);
        s.out.media(Command::Close { session: self.session });
        recorders::ended(now, s, self.id);
        s.remains.close_session(now, self.session, self.id, recording);
        s.ports.give_back(now, self.ports);
        for tag in self.tags.drain(..) {
            s.tags.remove(&tag);
            s.remains.bury_tag(now, tag);
        }
        for call_id in self.call_ids.iter().flatten() {
            s.endpoint.forget_call(now, call_id);
        }
        self.uncount(s);
        s.load[self.trunk(self.caller_leg).0] -= 1;
        let talk = answered.map_or(0, |since| now.saturating_duration_since(since).as_millis());
        let talk_ms = u64::try_from(talk).unwrap_or(u64::MAX);
        s.out.event(self.id, EventKind::CallEnded { cause, status, talk_ms });
    }
}
