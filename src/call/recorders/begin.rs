//! How lines begin: what a recorder is told of a call, and the recording session that one of its targets is asked for.

use std::net::SocketAddr;
use std::time::Instant;

use rand::RngExt;

use super::line::{Attempt, Line, LineId};
use super::{Seen, begin_round, with_line};
use crate::base::Random;
use crate::base::ids::Leg;
use crate::base::time::WallMs;
use crate::call::core::Core;
use crate::call::crossing::{self, token};
use crate::call::orders::{ForkId, RecordOrder};
use crate::call::shared::Shared;
use crate::config::{Config, Fact, Piece, Recorder, RecorderId, Told};
use crate::record::siprec::metadata::{self, MOST_FORMER, Participant, Uuid};
use crate::record::siprec::sdp::Ours;
use crate::record::siprec::{Session, Setup};
use crate::sip::msg::HeaderName;
use crate::sip::msg::header::address;
use crate::sip::{Dest, Method, Request};

/// The most characters of a header's value that a recorder is told.
const LONGEST: usize = 512;

/// The values of those headers of an INVITE that a recorder is told of.
pub(in crate::call) fn carried(config: &Config, invite: &Request) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    for name in config.recorders.iter().flat_map(Recorder::wanted_headers) {
        let known = found.iter().any(|(known, _)| known.eq_ignore_ascii_case(name));
        if let Some(value) = invite.headers.get_named(name).filter(|_| !known) {
            let text = String::from_utf8_lossy(value);
            found.push((name.to_owned(), text.chars().filter(|c| !c.is_control()).take(LONGEST).collect()));
        }
    }
    found
}

/// A call is answered, or goes on on another trunk: a line begins to each recorder of its trunks that it has none to; whether
/// there was one.
pub(in crate::call) fn answered(now: Instant, s: &mut Shared, core: &Core, seen: &Seen) -> bool {
    let config = s.config.clone();
    let mut begun = false;
    for id in core.trunks.iter().flat_map(|trunk| &config.trunks[trunk.0].recorders) {
        let known = s.recorders.of_call.get(&core.id).into_iter().flatten();
        if known.filter_map(|line| s.recorders.lines.get(line)).any(|line| line.recorder == *id) {
            continue;
        }
        begun = true;
        s.recorders.last_line += 1;
        let line = LineId(s.recorders.last_line);
        let wall = s.recorders.wall(now);
        let made = make(s, core, (line, *id), seen, wall);
        s.recorders.lines.insert(line, made);
        s.recorders.of_call.entry(core.id).or_default().push(line);
        with_line(s, line, |line, s| {
            if line.is_paused() {
                line.last_paused = Some(now);
            }
            begin_round(now, s, line);
        });
    }
    begun
}

fn make(s: &mut Shared, core: &Core, (id, recorder): (LineId, RecorderId), seen: &Seen, wall: WallMs) -> Line {
    let config = s.config.clone();
    let of = &config.recorders[recorder.0];
    let facts = Facts { config: &config, core };
    let mut participants = Vec::new();
    for leg in [Leg::Customer, Leg::Agent] {
        seat(&mut s.random, &mut participants, (leg, &seen.far[leg.index()], &config.node.name), wall);
    }
    let told = metadata::Call {
        session: Uuid(s.random.random()),
        streams: [Uuid(s.random.random()), Uuid(s.random.random())],
        id: core.id.to_string(),
        call_ids: seen.call_ids.clone(),
        codecs: seen.codecs.clone(),
        started: wall,
        participants,
        held: seen.held,
        caller: core.caller_leg,
        extensions: facts.texts(&of.extensions),
        namespace: of.namespace.clone(),
        user_to_user: facts.header("User-to-User").map(str::to_owned),
        part: None,
    };
    let carrier = &config.trunks[core.trunk(Leg::Customer).0];
    Line {
        media: Some(core.session),
        headers: facts.texts(&of.headers),
        held: seen.paused,
        horizon: core.protection.wishes.horizon,
        hold_default: carrier.hold_default,
        hold_max: carrier.hold_max,
        ..Line::new(id, core.id, recorder, told)
    }
}

/// Makes sure that `user` has the seat of a leg; whoever had it before has left.
pub(super) fn seat(
    random: &mut Random,
    participants: &mut Vec<Participant>,
    (leg, user, host): (Leg, &str, &str),
    wall: WallMs,
) {
    let here = participants.iter_mut().find(|one| one.leg == leg && one.left.is_none());
    if here.as_ref().is_some_and(|one| one.user == user) {
        return;
    }
    if let Some(one) = here {
        one.left = Some(wall);
    }
    participants.push(Participant {
        id: Uuid(random.random()),
        leg,
        user: user.to_owned(),
        // Hosts of peers stay unknown to the recorder.
        host: host.to_owned(),
        joined: wall,
        left: None,
    });
    while participants.iter().filter(|one| one.left.is_some()).count() > MOST_FORMER {
        if let Some(oldest) = participants.iter().position(|one| one.left.is_some()) {
            participants.remove(oldest);
        }
    }
}

/// Where texts for a recorder come from.
struct Facts<'a> {
    config: &'a Config,
    core: &'a Core,
}

impl Facts<'_> {
    fn header(&self, name: &str) -> Option<&str> {
        let found = self.core.carried.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// The texts that hold something: what only names what the call does not have is left out.
    fn texts(&self, told: &[Told]) -> Vec<(String, String)> {
        let one = |told: &Told| {
            let mut text = String::new();
            for piece in &told.value {
                match piece {
                    Piece::Text(plain) => text.push_str(plain),
                    Piece::Header(name) => text.push_str(self.header(name)?),
                    Piece::Fact(fact) => text.push_str(&self.fact(*fact)?),
                }
            }
            (!text.is_empty()).then(|| (told.name.clone(), text))
        };
        told.iter().filter_map(one).collect()
    }

    fn fact(&self, fact: Fact) -> Option<String> {
        let core = self.core;
        let trunk = |leg: Leg| Some(self.config.trunks[core.trunk(leg).0].name.clone());
        match fact {
            Fact::Call => Some(core.id.to_string()),
            Fact::CustomerCallId => core.call_ids[0].clone(),
            Fact::AgentCallId => core.call_ids[1].clone(),
            Fact::Caller => Some(core.facts.caller.clone()),
            Fact::Called => Some(core.facts.called.clone()),
            Fact::FromTrunk => trunk(core.caller_leg),
            Fact::ToTrunk => trunk(core.caller_leg.other()),
            Fact::Reference => core.facts.reference.clone(),
            Fact::Node => Some(self.config.node.name.clone()),
        }
    }
}

/// Asks a target for a session.
pub(super) fn attempt(now: Instant, s: &mut Shared, line: &mut Line, remote: SocketAddr) -> Result<Attempt, String> {
    let config = s.config.clone();
    let recorder = &config.recorders[line.recorder.0];
    let ports = s.ports.take(now).ok_or("no media port is free")?;
    let place = config.media_of(recorder.trunk);
    s.recorders.last_fork += 1;
    let fork = ForkId(s.recorders.last_fork);
    let trunk = &config.trunks[recorder.trunk.0];
    let ours = Ours::new(&mut s.random, (place.advertise, ports), recorder.codec, (recorder.srtp, &trunk.srtp_suites));
    let tag = token(&mut s.random);
    let invite = invite(&mut s.random, &config, line, remote, &tag);
    let call_id = invite.call_id().unwrap_or_default().to_owned();
    let listener = &config.listeners[trunk.listener.0];
    let setup = Setup {
        contact: crossing::contact(listener, ";+sip.src"),
        dialect: recorder.dialect,
        ours,
        policy: s.policies[recorder.trunk.0].clone(),
        answer: trunk.link.failover(),
        alive: recorder.alive,
        metadata: metadata::write(recorder.dialect, &line.told),
        paused: line.is_paused(),
        invite,
    };
    let session = Session::new(now, &mut s.random, setup);
    let seed = s.random.random();
    s.out.record(RecordOrder::OpenFork { fork, session: line.media, address: place.address, ports, seed });
    s.recorders.tags.insert(tag.clone(), line.id);
    s.recorders.forks.insert(fork, line.id);
    let dest = Dest::fresh(trunk.listener, listener.transport, remote, recorder.trunk);
    Ok(Attempt { session, client: None, dest, fork, ports: Some(ports), accepted: false, tag, call_id, began: now })
}

/// The INVITE without what the session adds.
fn invite(random: &mut Random, config: &Config, line: &Line, remote: SocketAddr, tag: &str) -> Request {
    let recorder = &config.recorders[line.recorder.0];
    let listener = &config.listeners[config.trunks[recorder.trunk.0].listener.0];
    let target = crossing::target(listener, &recorder.user, remote);
    let mut invite = Request::new(Method::Invite, &target);
    let from = address(None, &crossing::uri(listener, "tonewall", listener.advertise), Some(tag));
    invite.headers.push(HeaderName::MaxForwards, "70");
    invite.headers.push(HeaderName::From, from);
    invite.headers.push(HeaderName::To, address(None, &crossing::uri(listener, &recorder.user, remote), None));
    invite.headers.push(HeaderName::CallId, format!("{:032x}", random.random::<u128>()));
    invite.headers.push(HeaderName::CSeq, format!("{} INVITE", random.random_range(1..1 << 16)));
    if recorder.dialect == crate::config::Dialect::AudioCodes {
        let of = line.told.call_ids.iter().flatten().next();
        for (name, value) in [("X-AUDC-CALL-ID", of), ("AC-SESSION-ID", Some(&line.told.id))] {
            if let Some(value) = value {
                // A Call-ID of a peer that cannot be a header's value stays behind.
                let _ = invite.headers.try_push_named(name, value);
            }
        }
    }
    for (name, value) in &line.headers {
        let _ = invite.headers.try_push_named(name, value);
    }
    if let Some(part) = &line.told.part {
        let (from, to) = (part.from.rfc3339(), part.to.rfc3339());
        let _ = invite.headers.try_push_named("X-Tonewall-Spill", format!("{};from={from};to={to}", part.recording));
    }
    invite
}
