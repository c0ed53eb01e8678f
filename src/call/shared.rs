//! What all calls share: configuration, the SIP endpoint, ports, indexes from the wire to calls, and the outbox. The
//! engine lends it to one call at a time.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use super::crossing;
use super::join::Join;
use super::outbox::Outbox;
use super::payments::Payments;
use super::ports::Ports;
use super::recorders::Recorders;
use super::refused::Refused;
use super::register::Registration;
use super::remains::Remains;
use super::trunks::Trunks;
use crate::base::Random;
use crate::base::bucket::Bucket;
use crate::base::ids::{CallId, Leg, SessionId};
use crate::config::{Challenge, Config, DigestAlgorithm, Listener, Login, RecordingPolicy, TrunkId};
use crate::sdp::Policy;
use crate::sip::digest::{Algorithm, Credential, Guard};
use crate::sip::endpoint::Timers;
use crate::sip::msg::HeaderName;
use crate::sip::{ClientId, Dest, Dialog, Endpoint, Method, Request, Response, ServerId};
use crate::srtp::Identity;

/// How long a 2xx of a further fork may still come after the first final answer (64 × T1 and some).
const LATE_ANSWERS: Duration = Duration::from_secs(35);

/// How far a stray dialog's CSeq starts above its INVITE's: more requests than an early dialog ever has.
const STRAY_CSEQ: u32 = 1_000;

/// An INVITE of ours and who waits for its answer.
pub(super) struct Invite {
    pub(super) request: Request,
    pub(super) dest: Dest,
    pub(super) advertise: SocketAddr,
    /// The call that waits; `None`: nobody any more, and a 2xx gets ACK and BYE.
    pub(super) owner: Option<CallId>,
    /// A re-INVITE: a 2xx that nobody waits for gets ACK alone, its dialog is ended elsewhere.
    pub(super) in_dialog: bool,
}

/// A request of ours within a dialog, other than INVITE, whose answer matters.
pub(super) enum Asked {
    /// An UPDATE or PRACK of a call's negotiation.
    Change(CallId),
    /// An UPDATE that refreshes a leg's session timer.
    Refresh(CallId, Leg),
    /// An INFO or MESSAGE passed on.
    Relay(CallId),
    /// A REFER passed on.
    Refer(CallId),
    /// Anything else whose timeout or 481 tells that the dialog is gone: an INFO passed on, an OPTIONS.
    Probe(CallId, Leg),
    /// A REGISTER of ours, by its CSeq.
    Register(TrunkId, u32),
    /// An OPTIONS to a trunk's target.
    Target(TrunkId, SocketAddr),
}

/// What all calls share.
pub(super) struct Shared {
    pub(super) config: Arc<Config>,
    pub(super) policies: Vec<Policy>,
    /// The same for calls whose digits are withheld.
    pub(super) guarded_policies: Vec<Policy>,
    /// The certificate we show where keys are agreed by DTLS.
    pub(super) identity: Option<Arc<Identity>>,
    pub(super) timers: Timers,
    pub(super) random: Random,
    pub(super) endpoint: Endpoint,
    pub(super) out: Outbox,
    pub(super) ports: Ports,
    /// Our tags: each names a leg of a call, early or confirmed.
    pub(super) tags: HashMap<String, (CallId, Leg)>,
    /// INVITEs taken, whose CANCEL, ACK or lost ACK concerns a call.
    pub(super) servers: HashMap<ServerId, CallId>,
    pub(super) invites: HashMap<ClientId, Invite>,
    /// Answered INVITEs, by when no fork's 2xx can come any more; oldest first.
    answered: VecDeque<(Instant, ClientId)>,
    pub(super) asked: HashMap<ClientId, Asked>,
    pub(super) remains: Remains,
    /// Recording sessions of the calls.
    pub(super) recorders: Recorders,
    /// Whether sealed recordings can be written now.
    pub(super) storage_writable: bool,
    /// Payments that no call holds.
    pub(super) payments: Payments,
    /// Calls per trunk.
    pub(super) load: Vec<u32>,
    /// Targets and limits of the trunks.
    pub(super) trunks: Trunks,
    /// Registrations of ours, by trunk.
    pub(super) registrations: Vec<Option<Registration>>,
    /// What peers have to prove before they may call, by trunk.
    pub(super) guards: Vec<Option<Guard>>,
    /// New calls a second, of the node.
    pub(super) calls_per_s: Bucket,
    /// Calls that are to become one.
    pub(super) joins: Vec<Join>,
    last_session: u64,
}

fn guard(challenge: &Challenge) -> Guard {
    let algorithm = |of: &DigestAlgorithm| match of {
        DigestAlgorithm::Sha256 => Algorithm::Sha256,
        DigestAlgorithm::Md5 => Algorithm::Md5,
    };
    let algorithms = challenge.algorithms.iter().map(algorithm).collect();
    Guard::new(&challenge.login.realm, credential(&challenge.login), algorithms)
}

/// A login as the SIP room takes it.
pub(super) fn credential(login: &Login) -> Credential {
    Credential { user: login.user.clone(), secret: Zeroizing::new(login.secret.expose().to_owned()) }
}

impl Shared {
    pub(super) fn new(config: Arc<Config>, random: Random, endpoint: Endpoint) -> Self {
        let policies: Vec<_> = (0..config.trunks.len()).map(|at| Policy::new(&config, TrunkId(at))).collect();
        let guarded_policies = policies.iter().map(Policy::guarded).collect();
        Self {
            policies,
            guarded_policies,
            identity: None,
            timers: Timers::default(),
            random,
            endpoint,
            out: Outbox::default(),
            ports: Ports::new(config.media.ports, config.media.port_quarantine),
            tags: HashMap::new(),
            servers: HashMap::new(),
            invites: HashMap::new(),
            answered: VecDeque::new(),
            asked: HashMap::new(),
            remains: Remains::default(),
            recorders: Recorders::new(&config.recorders),
            storage_writable: true,
            payments: Payments::default(),
            load: vec![0; config.trunks.len()],
            trunks: Trunks::new(&config),
            registrations: config.trunks.iter().map(|_| None).collect(),
            guards: config.trunks.iter().map(|trunk| trunk.link.challenge.as_ref().map(guard)).collect(),
            calls_per_s: Bucket::new(config.bounds.max_calls_per_s),
            joins: Vec::new(),
            last_session: 0,
            config,
        }
    }

    /// A session id never used before.
    pub(super) fn next_session(&mut self) -> SessionId {
        self.last_session += 1;
        SessionId(self.last_session)
    }

    /// The listener of a trunk.
    pub(super) fn listener(&self, trunk: TrunkId) -> &Listener {
        &self.config.listeners[self.config.trunks[trunk.0].listener.0]
    }

    /// Whether the trunk carries its most calls.
    pub(super) fn is_full(&self, trunk: TrunkId) -> bool {
        self.load[trunk.0] >= self.config.trunks[trunk.0].max_calls
    }

    /// Whether a call between these trunks could be recorded in a sealed file, if it must be.
    pub(super) fn may_seal(&self, trunks: [TrunkId; 2]) -> bool {
        let must = |trunk: &TrunkId| self.config.trunks[trunk.0].recording == RecordingPolicy::Required;
        self.storage_writable || !trunks.iter().any(must)
    }

    /// Answers a request.
    pub(super) fn respond(&mut self, now: Instant, id: ServerId, response: Response) {
        self.endpoint.respond(now, id, response);
    }

    /// Turns a request down.
    pub(super) fn refuse(&mut self, now: Instant, id: ServerId, request: &Request, why: &Refused) {
        self.endpoint.respond(now, id, why.response(request));
    }

    /// Sends an INVITE for `call`.
    pub(super) fn send_invite(&mut self, now: Instant, call: CallId, request: Request, dest: Dest) -> ClientId {
        let advertise = self.config.listeners[dest.listener.0].advertise;
        let in_dialog = request.to_tag().is_some();
        let id = self.endpoint.request(now, request.clone(), dest, advertise);
        let invite = Invite { request, dest, advertise, owner: Some(call), in_dialog };
        self.invites.insert(id, invite);
        id
    }

    /// Sends a request within a dialog; `asked` when its answer matters.
    pub(super) fn send(&mut self, now: Instant, request: Request, dest: Dest, asked: Option<Asked>) -> ClientId {
        let advertise = self.config.listeners[dest.listener.0].advertise;
        let id = self.endpoint.request(now, request, dest, advertise);
        if let Some(asked) = asked {
            self.asked.insert(id, asked);
        }
        id
    }

    /// Acknowledges the 2xx to an INVITE of ours, with an SDP answer when the offer was theirs.
    pub(super) fn ack(&mut self, now: Instant, id: ClientId, dialog: &Dialog, dest: Dest, body: Option<Vec<u8>>) {
        let Some(invite) = self.invites.get(&id) else { return };
        let cseq = invite.request.cseq().map(|cseq| cseq.number).unwrap_or_default();
        let mut ack = dialog.ack(cseq);
        if let Some(body) = body {
            ack.set_body(super::bodies::SDP, body);
        }
        self.endpoint.ack_2xx(now, id, ack, dest, invite.advertise);
    }

    /// Ends a dialog by BYE.
    pub(super) fn bye(&mut self, now: Instant, dialog: &mut Dialog, dest: Dest, reason: Option<&str>) {
        let mut bye = dialog.next_request(Method::Bye);
        if let Some(reason) = reason {
            bye.headers.push(HeaderName::Reason, reason);
        }
        self.send(now, bye, dest, None);
    }

    /// Gives up an INVITE: cancels it, and whatever 2xx still comes is acknowledged and ended.
    pub(super) fn abandon(&mut self, now: Instant, id: ClientId, reason: Option<&str>) {
        if let Some(invite) = self.invites.get_mut(&id) {
            invite.owner = None;
            match reason {
                Some(reason) => self.endpoint.cancel(now, id, &[(HeaderName::Reason, reason)]),
                None => self.endpoint.cancel(now, id, &[]),
            }
        }
    }

    /// Notes that an INVITE has its final answer; 2xx of further forks are awaited a while.
    pub(super) fn invite_answered(&mut self, now: Instant, id: ClientId, status: u16) {
        if (200..300).contains(&status) {
            self.answered.push_back((now + LATE_ANSWERS, id));
        } else {
            self.invites.remove(&id);
        }
    }

    /// A 2xx that nobody waits for (RFC 3261 section 13.2.2.4): a further fork's, or one that crossed our CANCEL.
    pub(super) fn stray_answer(&mut self, now: Instant, id: ClientId, response: &Response) {
        let Some(invite) = self.invites.get(&id) else { return };
        let (dest, in_dialog) = (invite.dest, invite.in_dialog);
        // Without Contact there is nowhere to send the ACK; the peer gives up by its own timer.
        let Ok(mut dialog) = Dialog::uac(&invite.request, response) else { return };
        self.ack(now, id, &dialog, dest, None);
        if !in_dialog {
            // PRACKs and UPDATEs of the early dialog may have counted on.
            dialog.skip_cseq(STRAY_CSEQ);
            self.bye(now, &mut dialog, dest, None);
        }
    }

    /// Forgets what no late answer can need any more.
    pub(super) fn forget_old(&mut self, now: Instant) {
        while self.answered.front().is_some_and(|(until, _)| *until <= now) {
            if let Some((_, id)) = self.answered.pop_front() {
                self.invites.remove(&id);
            }
        }
    }

    /// When [`Shared::forget_old`] is due.
    pub(super) fn forget_at(&self) -> Option<Instant> {
        self.answered.front().map(|(until, _)| *until)
    }

    /// A fresh tag that names `leg` of `call`.
    pub(super) fn new_tag(&mut self, call: CallId, leg: Leg) -> String {
        let tag = crossing::token(&mut self.random);
        self.tags.insert(tag.clone(), (call, leg));
        tag
    }
}
