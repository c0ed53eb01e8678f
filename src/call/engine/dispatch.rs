//! Where what the endpoint reports goes: requests to the call of their dialog or to admission, responses and failures to
//! whoever asked. Events go in; calls act. Nothing is decided here but whose a message is, and whether its sender has
//! proved who it is.

use std::time::Instant;

use super::{Engine, Slot};
use crate::call::admission::{self, Room};
use crate::call::refused::Refused;
use crate::call::shared::Asked;
use crate::call::trunks::{self, Met};
use crate::call::{recorders, register, routing, takeover};
use crate::config::TrunkId;
use crate::sip::digest::{Asked as Asking, Judgement};
use crate::sip::msg::HeaderName;
use crate::sip::{Event, Flow, Method, Request, Response, ServerId};

/// How many times the size of a request the answer may have, where nobody has proved where it came from (threats R27).
const MOST_BACK: usize = 3;

/// What the endpoint still adds to a response: our tag, `received`, `Server`.
const ADDED: usize = 128;

/// What stands before a challenge, and the end of its line.
const CHALLENGE: &str = "WWW-Authenticate: \r\n";

impl Engine {
    /// Hands every event of the endpoint to whom it concerns.
    pub(super) fn pump(&mut self, now: Instant) {
        while let Some(event) = self.shared.endpoint.poll_event() {
            match event {
                Event::Request { id, flow, request } => self.handle_request(now, id, &flow, request),
                Event::Ack { invite, request, .. } => self.handle_ack(now, invite, &request),
                Event::Cancelled { invite, cancel } => {
                    if let Some(call) = self.shared.servers.get(&invite).copied() {
                        self.with_call(call, |call, s| call.handle_cancelled(now, s, invite, &cancel));
                    }
                }
                Event::Response { id, response } => self.handle_response(now, id, &response),
                Event::ClientTimeout { id } => self.handle_failure(now, id, 408),
                Event::TransportFailed { id } => self.handle_failure(now, id, 503),
                Event::ServerTimeout { id } => self.handle_lost_ack(now, id),
                // Already answered, if it could be; a parse fault belongs to no call.
                Event::Malformed { .. } => {}
            }
            self.join_calls(now);
        }
        self.tell_recorders(now);
    }

    /// Calls that a transfer makes one.
    fn join_calls(&mut self, now: Instant) {
        while let Some(join) = self.shared.joins.pop() {
            let given = self.with_call(join.other.0, |call, s| call.give(now, s, &join));
            match given.unwrap_or(Err(Refused::new(481))) {
                Ok(given) => drop(self.with_call(join.call, |call, s| call.receive(now, s, &join, given))),
                Err(why) => self.shared.refuse(now, join.server, &join.request, &why),
            }
        }
    }

    fn handle_request(&mut self, now: Instant, id: ServerId, flow: &Flow, request: Request) {
        if recorders::handle_request(now, &mut self.shared, id, flow, &request) {
            return;
        }
        if let Some(tag) = request.to_tag() {
            let Some((call, leg)) = self.shared.tags.get(tag).copied() else {
                return self.handle_gone(now, id, &request);
            };
            let Some(slot) = self.calls.get(&call) else { return };
            let trunk = slot.call.core.trunk(leg);
            if let Err(why) = admission::extensions(&self.shared.config.trunks[trunk.0], &request) {
                return self.shared.refuse(now, id, &request, &why);
            }
            self.with_call(call, |call, s| call.handle_request(now, s, leg, (id, flow, request)));
            return;
        }
        let Some(trunk) = routing::trunk_of(&self.shared.config, flow) else { return };
        if request.method == Method::Invite {
            self.handle_invite(now, trunk, (id, flow, &request));
        } else {
            admission::handle_outside(now, &mut self.shared, trunk, (id, &request));
        }
    }

    /// A request within a dialog that is no more, or never was.
    fn handle_gone(&mut self, now: Instant, id: ServerId, request: &Request) {
        let ours =
            request.method == Method::Bye && request.to_tag().is_some_and(|tag| self.shared.remains.takes_bye(tag));
        if ours {
            self.shared.respond(now, id, Response::for_request(request, 200, ""));
        } else {
            self.shared.endpoint.reject(now, id, Refused::new(481).response(request));
        }
    }

    /// Whether the peer of `trunk` has proved who it is, where it has to; if not, it has been answered.
    fn has_proved(&mut self, now: Instant, trunk: TrunkId, (id, flow, request): (ServerId, &Flow, &Request)) -> bool {
        let s = &mut self.shared;
        let Some(guard) = s.guards.get_mut(trunk.0).and_then(Option::as_mut) else { return true };
        let uri = String::from_utf8_lossy(&request.raw_uri);
        let asked = Asking { method: request.method.as_str(), uri: &uri, body: &request.body };
        let given = request.headers.get_all(HeaderName::Authorization);
        let stale = match guard.judge(now, given, asked) {
            Judgement::Granted => return true,
            Judgement::Missing => false,
            Judgement::Stale => true,
            Judgement::Wrong => {
                s.endpoint.reject(now, id, Refused::new(403).response(request));
                return false;
            }
        };
        let mut response = Response::for_request(request, 401, "");
        // Whoever has proved nothing may have borrowed its address: what goes there must not be much more than came.
        let spoofable = flow.transport == crate::config::Transport::Udp;
        let mut room = if spoofable { MOST_BACK * request.to_bytes().len() } else { usize::MAX };
        room = room.saturating_sub(response.to_bytes().len() + ADDED);
        for challenge in guard.challenge(now, &mut s.random, stale) {
            let Some(left) = room.checked_sub(challenge.len() + CHALLENGE.len()) else { break };
            room = left;
            response.headers.push(HeaderName::WwwAuthenticate, challenge);
        }
        if response.headers.get(HeaderName::WwwAuthenticate).is_none() {
            response = Refused::new(403).response(request);
        }
        s.endpoint.reject(now, id, response);
        false
    }

    fn handle_invite(&mut self, now: Instant, trunk: TrunkId, invite: (ServerId, &Flow, &Request)) {
        if !self.has_proved(now, trunk, invite) {
            return;
        }
        if invite.2.headers.get(HeaderName::Replaces).is_some() {
            return self.handle_replaces(now, trunk, invite);
        }
        self.place(now, trunk, invite);
    }

    /// Makes a call of an INVITE, or refuses it.
    pub(super) fn place(&mut self, now: Instant, trunk: TrunkId, invite: (ServerId, &Flow, &Request)) {
        let room = Room { calls: self.calls.len(), draining: self.draining };
        match admission::admit(now, &mut self.shared, room, trunk, invite) {
            Ok(call) => {
                let id = call.core.id;
                self.sessions.insert(call.core.session, id);
                self.calls.insert(id, Slot { call, due: None, filed: Vec::new() });
                self.with_call(id, |_, _| ());
            }
            Err(why) => self.turn_away(now, invite.0, invite.2, &why),
        }
    }

    /// An INVITE that is to take the place of a dialog of ours.
    fn handle_replaces(&mut self, now: Instant, trunk: TrunkId, invite: (ServerId, &Flow, &Request)) {
        let taken = takeover::find(&self.shared, trunk, invite.2).and_then(|(call, leg)| {
            let taken = self.with_call(call, |call, s| call.handle_replaces(now, s, (leg, trunk), invite));
            taken.unwrap_or(Err(Refused::new(481)))
        });
        if let Err(why) = taken {
            self.turn_away(now, invite.0, invite.2, &why);
        }
    }

    fn handle_ack(&mut self, now: Instant, invite: ServerId, ack: &Request) {
        if recorders::handle_ack(now, &mut self.shared, invite, Some(ack)) {
            return;
        }
        match self.shared.servers.get(&invite).copied() {
            Some(call) => {
                self.with_call(call, |call, s| call.handle_ack(now, s, invite, ack));
            }
            None => self.bid_farewell(now, invite),
        }
    }

    fn handle_lost_ack(&mut self, now: Instant, invite: ServerId) {
        if recorders::handle_ack(now, &mut self.shared, invite, None) {
            return;
        }
        match self.shared.servers.get(&invite).copied() {
            Some(call) => {
                self.with_call(call, |call, s| call.handle_lost_ack(now, s, invite));
            }
            None => self.bid_farewell(now, invite),
        }
    }

    /// The BYE that waited for an ACK may go.
    fn bid_farewell(&mut self, now: Instant, invite: ServerId) {
        if let Some(mut farewell) = self.shared.remains.take_farewell(invite) {
            self.shared.bye(now, &mut farewell.dialog, farewell.dest, None);
        }
    }

    fn handle_response(&mut self, now: Instant, id: crate::sip::ClientId, response: &Response) {
        if let Some(invite) = self.shared.invites.get(&id) {
            let (owner, dest) = (invite.owner, invite.dest);
            if !invite.in_dialog {
                self.shared.trunks.met(now, &dest, Met::of(response));
            }
            if response.is_final() {
                self.shared.invite_answered(now, id, response.status);
            }
            if recorders::handle_response(now, &mut self.shared, id, response) {
                return;
            }
            let waited = owner.and_then(|call| self.with_call(call, |c, s| c.handle_response(now, s, id, response)));
            if waited != Some(true) && response.class() == 2 {
                self.shared.stray_answer(now, id, response);
            }
            return;
        }
        if !response.is_final() || recorders::handle_response(now, &mut self.shared, id, response) {
            return;
        }
        match self.shared.asked.remove(&id) {
            Some(Asked::Change(call)) => {
                self.with_call(call, |call, s| call.handle_response(now, s, id, response));
            }
            Some(Asked::Refresh(call, leg)) => {
                self.with_call(call, |call, s| call.handle_refreshed(now, s, leg, response));
            }
            Some(Asked::Relay(call)) => {
                self.with_call(call, |call, s| call.handle_relayed(now, s, (id, response.status)));
            }
            Some(Asked::Refer(call)) => {
                self.with_call(call, |call, s| call.handle_referred(now, s, response.status));
            }
            Some(Asked::Probe(call, leg)) => {
                self.with_call(call, |call, s| call.handle_probe(now, s, leg, response.status));
            }
            Some(Asked::Register(trunk, cseq)) => {
                register::handle_response(now, &mut self.shared, (trunk, cseq), response);
            }
            Some(Asked::Target(trunk, remote)) => {
                trunks::handle_probe(&mut self.shared, trunk, remote, Met::of(response));
            }
            None => {}
        }
    }

    fn handle_failure(&mut self, now: Instant, id: crate::sip::ClientId, status: u16) {
        if recorders::handle_failure(now, &mut self.shared, id, status) {
            return;
        }
        let owner = match (self.shared.invites.remove(&id), self.shared.asked.remove(&id)) {
            (Some(invite), _) => {
                if !invite.in_dialog {
                    self.shared.trunks.met(now, &invite.dest, Met::Nothing);
                }
                invite.owner
            }
            (None, Some(Asked::Change(call))) => Some(call),
            (None, Some(Asked::Refresh(call, leg))) => {
                self.with_call(call, |call, s| call.handle_refreshed(now, s, leg, &Response::new(status, "")));
                None
            }
            (None, Some(Asked::Relay(call))) => {
                self.with_call(call, |call, s| call.handle_relayed(now, s, (id, status)));
                None
            }
            (None, Some(Asked::Refer(call))) => {
                self.with_call(call, |call, s| call.handle_referred(now, s, status));
                None
            }
            (None, Some(Asked::Probe(call, leg))) => {
                self.with_call(call, |call, s| call.handle_probe(now, s, leg, 408));
                None
            }
            (None, Some(Asked::Register(trunk, cseq))) => {
                let response = Response::new(status, "");
                register::handle_response(now, &mut self.shared, (trunk, cseq), &response);
                None
            }
            (None, Some(Asked::Target(trunk, remote))) => {
                trunks::handle_probe(&mut self.shared, trunk, remote, Met::Nothing);
                None
            }
            (None, None) => None,
        };
        if let Some(call) = owner {
            self.with_call(call, |call, s| call.handle_failure(now, s, id, status));
        }
    }
}
