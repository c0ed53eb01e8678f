//! One call: the lasting core and the phase it is in. Finds the handler of each happening by phase, and turns a
//! verdict into the call's end.
//!
//! ```text
//!  INVITE ─► SettingUp ── 2xx ──► Established ── BYE, failure, operator ──► Over
//!               └── refused, cancelled, timed out ──────────────────────────► Over
//! ```

use std::time::Instant;

use super::core::{Core, Unmade};
use super::established::{Established, Exchange};
use super::refused::Refused;
use super::setup::SettingUp;
use super::shared::Shared;
use super::{RecorderReport, crossing};
use crate::base::ids::{Leg, RecordingId};
use crate::base::secret::Digit;
use crate::base::time::soonest;
use crate::media::Command;
use crate::obs::event::EndCause;
use crate::sip::{ClientId, Dest, Flow, Method, Request, Response, ServerId};

/// How far a call is.
pub(super) enum Phase {
    /// Nobody has answered.
    SettingUp(Box<SettingUp>),
    /// Both legs are up.
    Established(Box<Established>),
    /// Everything is freed; the engine forgets the call.
    Over,
}

/// Whether a call goes on.
pub(super) enum Verdict {
    /// It does.
    Stay,
    /// It ends; BYE goes to every leg but `gone`.
    End { cause: EndCause, gone: Option<Leg>, reason: Option<String> },
}

/// One call.
pub(super) struct Call {
    pub(super) core: Core,
    pub(super) phase: Phase,
}

impl Call {
    /// Whether the engine may forget it.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over)
    }

    /// Whether nobody has heard of it yet: its first request still waits to be sent.
    pub(super) fn is_unheard(&self, s: &Shared) -> bool {
        matches!(&self.phase, Phase::SettingUp(setup) if s.endpoint.is_unsent(setup.client()))
    }

    /// Takes back a call that nobody has heard of, as if it had not begun; gives what it was made of.
    pub(super) fn undo(mut self, now: Instant, s: &mut Shared, why: Unmade) -> Option<(ServerId, Dest, Request)> {
        let Phase::SettingUp(setup) = self.phase else { return None };
        s.endpoint.withdraw(setup.client());
        s.invites.remove(&setup.client());
        s.servers.remove(&setup.server());
        self.core.undo(now, s, why);
        Some(setup.into_caller())
    }

    /// A request within an early or confirmed dialog of `leg`.
    pub(super) fn handle_request(
        &mut self,
        now: Instant,
        s: &mut Shared,
        leg: Leg,
        (id, flow, request): (ServerId, &Flow, Request),
    ) {
        if !super::routing::comes_from(&s.config, self.core.trunk(leg), flow) {
            s.refuse(now, id, &request, &Refused::because(403, "Not Your Call"));
            return;
        }
        if self.core.call_ids[leg.index()].as_deref() != request.call_id() {
            s.refuse(now, id, &request, &Refused::new(481));
            return;
        }
        match &mut self.phase {
            Phase::SettingUp(_) => self.handle_early_request(now, s, leg, id, request),
            Phase::Established(up) => {
                let theirs = up.side(leg).dialog.id().remote_tag.as_str();
                if request.from_tag().unwrap_or_default() != theirs {
                    // A fork that lost, or a stranger who guessed one tag.
                    s.refuse(now, id, &request, &Refused::new(481));
                    return;
                }
                let dest = &mut up.side(leg).dest;
                if flow.connection.is_some() && dest.transport == flow.transport {
                    dest.connection = flow.connection;
                }
                let verdict = up.handle_request(now, &mut self.core, s, (leg, id, request));
                self.obey(now, s, verdict, false);
            }
            Phase::Over => s.refuse(now, id, &request, &Refused::new(481)),
        }
    }

    /// A request within an early dialog: the caller may end it; nothing can be changed yet.
    fn handle_early_request(&mut self, now: Instant, s: &mut Shared, leg: Leg, id: ServerId, request: Request) {
        let caller = leg == self.core.caller_leg;
        match &request.method {
            Method::Bye if caller => {
                s.respond(now, id, Response::for_request(&request, 200, ""));
                self.give_up(now, s, (487, EndCause::Cancelled), None);
            }
            Method::Info => super::info::handle_early(now, &mut self.core, s, (leg, id, &request)),
            Method::Options => s.respond(now, id, super::established::capabilities(&request)),
            Method::Update | Method::Prack => {
                self.setting_up(|setup, core| setup.handle_request(now, core, s, (leg, id, &request)))
            }
            Method::Invite => s.refuse(now, id, &request, &Refused::moment()),
            Method::Extension(_) => {
                let why = Refused::new(501).with(crate::sip::msg::HeaderName::Allow, crossing::ALLOW);
                s.refuse(now, id, &request, &why);
            }
            _ => s.refuse(now, id, &request, &Refused::new(481)),
        }
    }

    /// The peer cancelled an INVITE of its.
    pub(super) fn handle_cancelled(&mut self, now: Instant, s: &mut Shared, invite: ServerId, cancel: &Request) {
        match &mut self.phase {
            Phase::SettingUp(setup) if setup.server() == invite => {
                let reason = crossing::reason_of(&cancel.headers);
                self.give_up(now, s, (487, EndCause::Cancelled), reason.as_deref());
            }
            Phase::Established(up) => up.handle_change_cancelled(now, s, invite),
            Phase::SettingUp(_) | Phase::Over => {}
        }
    }

    /// The ACK for a 2xx of ours.
    pub(super) fn handle_ack(&mut self, now: Instant, s: &mut Shared, invite: ServerId, ack: &Request) {
        if let Phase::Established(up) = &mut self.phase {
            let verdict = up.handle_ack(now, &mut self.core, s, (invite, ack));
            self.obey(now, s, verdict, false);
        }
    }

    /// A final answer of ours was never acknowledged.
    pub(super) fn handle_lost_ack(&mut self, now: Instant, s: &mut Shared, invite: ServerId) {
        if let Phase::Established(up) = &mut self.phase {
            let verdict = up.handle_lost_ack(invite);
            self.obey(now, s, verdict, true);
        }
    }

    /// A response to an INVITE or UPDATE of ours; `false` when this call does not wait for it.
    pub(super) fn handle_response(&mut self, now: Instant, s: &mut Shared, id: ClientId, response: &Response) -> bool {
        match std::mem::replace(&mut self.phase, Phase::Over) {
            Phase::SettingUp(setup) if setup.awaits(id) => {
                self.phase = setup.handle_response(now, &mut self.core, s, (id, response));
                true
            }
            Phase::Established(mut up) if up.is_transferring(id) => {
                let verdict = up.handle_transfer_response(now, &mut self.core, s, response);
                self.phase = Phase::Established(up);
                self.obey(now, s, verdict, false);
                true
            }
            Phase::Established(mut up) if up.is_asking(id) => {
                let verdict = up.handle_change_response(now, &mut self.core, s, response);
                self.phase = Phase::Established(up);
                self.obey(now, s, verdict, false);
                true
            }
            phase => {
                self.phase = phase;
                false
            }
        }
    }

    /// An INVITE or UPDATE of ours timed out (408) or could not be sent (503).
    pub(super) fn handle_failure(&mut self, now: Instant, s: &mut Shared, id: ClientId, status: u16) {
        match std::mem::replace(&mut self.phase, Phase::Over) {
            Phase::SettingUp(setup) if setup.awaits(id) => {
                self.phase = setup.handle_failure(now, &mut self.core, s, (id, status));
            }
            Phase::Established(mut up) if up.is_transferring(id) => {
                let verdict = up.try_next_target(now, &self.core, s, status);
                self.phase = Phase::Established(up);
                self.obey(now, s, verdict, false);
            }
            Phase::Established(mut up) if up.is_asking(id) => {
                let verdict = up.handle_change_failure(now, &self.core, s, status);
                self.phase = Phase::Established(up);
                self.obey(now, s, verdict, false);
            }
            phase => self.phase = phase,
        }
    }

    /// An INFO passed on to `leg` got its final answer, or none.
    pub(super) fn handle_probe(&mut self, now: Instant, s: &mut Shared, leg: Leg, status: u16) {
        if let Phase::Established(up) = &mut self.phase {
            let verdict = up.handle_probe(leg, status);
            self.obey(now, s, verdict, false);
        }
    }

    /// An INFO or MESSAGE passed on got its final answer, or none.
    pub(super) fn handle_relayed(&mut self, now: Instant, s: &mut Shared, answer: (ClientId, u16)) {
        if let Phase::Established(up) = &mut self.phase {
            let verdict = up.handle_relayed(now, s, answer);
            self.obey(now, s, verdict, false);
        }
    }

    /// A REFER passed on got its final answer, or none.
    pub(super) fn handle_referred(&mut self, now: Instant, s: &mut Shared, status: u16) {
        if let Phase::Established(up) = &mut self.phase {
            let verdict = up.handle_referred(now, &self.core, s, status);
            self.obey(now, s, verdict, false);
        }
    }

    /// A refresh of a leg's session timer got its final answer, or none.
    pub(super) fn handle_refreshed(&mut self, now: Instant, s: &mut Shared, leg: Leg, response: &Response) {
        if let Phase::Established(up) = &mut self.phase {
            let verdict = up.handle_refreshed(now, &self.core, s, (leg, response));
            self.obey(now, s, verdict, false);
        }
    }

    /// Media reports a key press.
    pub(super) fn handle_digit(&mut self, now: Instant, s: &mut Shared, key: (Leg, Digit, Instant, bool)) {
        self.core.protection.handle_digit(now, &mut s.random, key, &mut s.out);
        self.send_released(now, s);
    }

    /// Sends on what the guard has let go, in the form that each leg takes.
    fn send_released(&mut self, now: Instant, s: &mut Shared) {
        while let Some((to, digit)) = self.core.protection.poll_released(now) {
            match &mut self.phase {
                Phase::Established(up) => {
                    if up.sends_tones(&self.core, s, to) {
                        self.core.protection.key_sounds(now, to, &mut s.out);
                    }
                    up.send_key(now, &self.core, s, to, digit);
                }
                Phase::SettingUp(_) | Phase::Over => {
                    let (session, duration_ms) = (self.core.session, crate::guard::classify::TONE_MS);
                    s.out.media(Command::SendDigit { session, to, digit, duration_ms });
                }
            }
        }
    }

    /// Media reports that nothing comes from either leg.
    pub(super) fn handle_inactivity(&mut self, now: Instant, s: &mut Shared) {
        if let Phase::Established(up) = &mut self.phase {
            let verdict = up.handle_inactivity(now, &self.core, s);
            self.obey(now, s, verdict, false);
        }
    }

    /// A recorder reports on this call's recording.
    pub(super) fn handle_recorder(&mut self, now: Instant, s: &mut Shared, id: RecordingId, report: RecorderReport) {
        match self.core.protection.handle_recorder(now, id, report, &mut s.out) {
            super::protection::RecorderVerdict::GoOn => {}
            super::protection::RecorderVerdict::EndCall => self.end(now, s, EndCause::RecorderFailed, 503),
        }
    }

    /// Ends the call from our side: BYE on both legs, or `status` to a caller who still waits.
    pub(super) fn end(&mut self, now: Instant, s: &mut Shared, cause: EndCause, status: u16) {
        match &self.phase {
            Phase::SettingUp(_) => self.give_up(now, s, (status, cause), None),
            Phase::Established(_) => self.obey(now, s, Verdict::End { cause, gone: None, reason: None }, false),
            Phase::Over => {}
        }
    }

    fn give_up(&mut self, now: Instant, s: &mut Shared, why: (u16, EndCause), reason: Option<&str>) {
        self.setting_up(|setup, core| setup.give_up(now, core, s, why, reason));
    }

    /// Lets a call that is being set up take its next phase.
    fn setting_up(&mut self, act: impl FnOnce(SettingUp, &mut Core) -> Phase) {
        match std::mem::replace(&mut self.phase, Phase::Over) {
            Phase::SettingUp(setup) => self.phase = act(*setup, &mut self.core),
            phase @ (Phase::Established(_) | Phase::Over) => self.phase = phase,
        }
    }

    pub(super) fn obey(&mut self, now: Instant, s: &mut Shared, verdict: Verdict, lost_ack: bool) {
        let Verdict::End { cause, gone, reason } = verdict else { return };
        match std::mem::replace(&mut self.phase, Phase::Over) {
            Phase::Established(up) => {
                let since = up.since;
                match &up.exchange {
                    Exchange::Asking(asking) => s.servers.remove(&asking.server),
                    Exchange::AwaitingAck { server, .. } => s.servers.remove(server),
                    Exchange::Quiet | Exchange::Renewing(_) => None,
                };
                up.part(now, s, gone, lost_ack, reason.as_deref());
                self.core.finish(now, s, cause, None, Some(since));
            }
            phase @ (Phase::SettingUp(_) | Phase::Over) => self.phase = phase,
        }
    }

    /// Time passed.
    pub(super) fn handle_timeout(&mut self, now: Instant, s: &mut Shared) {
        self.core.protection.handle_timeout(now, &mut s.random, &mut s.out);
        self.send_released(now, s);
        match std::mem::replace(&mut self.phase, Phase::Over) {
            Phase::SettingUp(setup) => self.phase = setup.handle_timeout(now, &mut self.core, s),
            Phase::Established(mut up) => {
                let verdict = up.handle_timeout(now, &self.core, s);
                self.phase = Phase::Established(up);
                self.obey(now, s, verdict, false);
            }
            Phase::Over => {}
        }
    }

    /// When [`Call::handle_timeout`] is due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let phase = match &self.phase {
            Phase::SettingUp(setup) => setup.poll_timeout(),
            Phase::Established(up) => up.poll_timeout(),
            Phase::Over => None,
        };
        soonest(phase, self.core.protection.poll_timeout())
    }
}
