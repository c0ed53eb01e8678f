//! One call's media: two legs, a guarded path each way, the recorder tap. Orders and datagrams go in with the time;
//! packets, blocks and events come out through [`Egress`].
//!
//! ```text
//!  customer ─► leg ─► path (guard) ─┬─► agent
//!                                   └─► tap, left
//!  agent ────► leg ─► path (guard) ─┬─► customer
//!                                   └─► tap, right
//! ```

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::SeedableRng;

use super::api::{Command, Event, Guard, LegStats, MaskedBlock, Tap as TapOrder};
use super::leg::{Accepted, Kind, LegSide, Origin};
use crate::base::Random;
use crate::base::ids::{Leg, SessionId};
use crate::base::time::soonest;
use crate::dtmf::inband::{Place, Together};
use crate::guard::path::{Order, Pressed};
use crate::guard::{Arrival, Masked, Path, Sent, Tap, TapState};
use crate::rtp::{View, red, rtcp};
use crate::srtp::Handshake;

/// Where a session puts what leaves it. Only what has been through the guard can be given.
pub trait Egress {
    /// An RTP packet toward the peer of leg `to`, or RTCP where both share a port; sealed where the leg is encrypted.
    fn rtp(&mut self, session: SessionId, to: Leg, destination: SocketAddr, packet: Masked<&[u8]>);
    /// An RTCP packet toward the peer of leg `to`.
    fn rtcp(&mut self, session: SessionId, to: Leg, destination: SocketAddr, packet: Masked<&[u8]>);
    /// A report to the call.
    fn event(&mut self, event: Event);
    /// 100 ms for the recorder.
    fn block(&mut self, session: SessionId, block: MaskedBlock);
}

/// One call's media.
pub(super) struct Session {
    id: SessionId,
    began: Instant,
    random: Random,
    legs: [LegSide; 2],
    /// By the leg the media comes from.
    paths: [Path; 2],
    tap: Tap,
    inactivity: Duration,
    /// When silence is reported; `None` once it has been, until media comes again.
    inactive_at: Option<Instant>,
}

impl Session {
    /// A session from [`Command::Create`]; `None` for any other order.
    pub(super) fn new(now: Instant, command: Command) -> Option<Self> {
        let Command::Create { session, allowed, toward_agent, toward_customer, inactivity_ms, seed, .. } = command
        else {
            return None;
        };
        let mut random = Random::seed_from_u64(seed);
        let [customer, agent] = allowed;
        let legs = [LegSide::new(customer, &mut random), LegSide::new(agent, &mut random)];
        let paths = [Path::new(&mut random, order_of(toward_agent)), Path::new(&mut random, order_of(toward_customer))];
        let inactivity = Duration::from_millis(u64::from(inactivity_ms));
        let inactive_at = (inactivity_ms > 0).then(|| now + inactivity);
        Some(Self { id: session, began: now, random, legs, paths, tap: Tap::new(), inactivity, inactive_at })
    }

    /// Carries out an order; `true` when the session is over.
    pub(super) fn handle_command(&mut self, now: Instant, command: Command, out: &mut impl Egress) -> bool {
        match command {
            // The session is there already.
            Command::Create { .. } => {}
            Command::SetLeg { leg, media, .. } => {
                let side = &mut self.legs[leg.index()];
                side.set(now, media);
                side.schedule_report(now, &mut self.random);
                let sink = side.sink();
                self.paths[leg.index()].set_source(side.media.rx.audio.iter().map(|format| format.codec));
                self.shake_hands(now, leg, out);
                self.paths[leg.other().index()].set_sink(sink);
            }
            Command::SetAllowed { leg, networks, .. } => {
                self.legs[leg.index()].set_allowed(networks);
                let sink = self.legs[leg.index()].sink();
                self.paths[leg.other().index()].set_sink(sink);
            }
            Command::SetGuard { from, guard, .. } => self.paths[from.index()].set_order(now, order_of(guard)),
            Command::SetTap { tap, .. } => {
                let state = match tap {
                    TapOrder::Off => TapState::Off,
                    TapOrder::On => TapState::On,
                    TapOrder::Paused => TapState::Paused,
                };
                self.paths.iter_mut().for_each(|path| path.set_tapped(tap != TapOrder::Off));
                self.tap.set(now, state, &mut |block| out.block(self.id, block));
            }
            Command::InfoDigit { from, digit, duration_ms, .. } => {
                self.paths[from.index()].handle_info(now, digit, duration_ms);
                self.report_presses(from, out);
            }
            Command::SendDigit { to, digit, duration_ms, .. } => {
                self.paths[to.other().index()].send_digit(now, digit, duration_ms);
            }
            Command::Close { .. } => {
                self.close(now, out);
                return true;
            }
        }
        false
    }

    fn close(&mut self, now: Instant, out: &mut impl Egress) {
        self.tap.set(now, TapState::Off, &mut |block| out.block(self.id, block));
        for leg in [Leg::Customer, Leg::Agent] {
            self.send_report(now, leg, true, out);
        }
        out.event(Event::Closed { session: self.id, stats: self.stats() });
    }

    /// Its name.
    pub(super) fn id(&self) -> SessionId {
        self.id
    }

    /// Counters per leg.
    pub(super) fn stats(&self) -> [LegStats; 2] {
        [self.legs[0].totals(), self.legs[1].totals()]
    }

    /// Whether something of `leg` waits to be heard.
    pub(super) fn is_waiting(&self, leg: Leg) -> bool {
        self.paths[leg.index()].is_waiting()
    }

    /// Hears what waits of `leg`, alone.
    pub(super) fn hear(&mut self, leg: Leg, out: &mut impl Egress) {
        self.paths[leg.index()].hear_waiting();
        self.report_presses(leg, out);
    }

    /// Puts what waits of `leg` in to be heard together with other lines; `None` where it has to be heard alone.
    pub(super) fn put_in(&self, leg: Leg, together: &mut Together) -> Option<Place> {
        self.paths[leg.index()].put_in(together)
    }

    /// Hears what was put in, if nothing else has happened to the path since; alone without a place.
    pub(super) fn take_out(&mut self, leg: Leg, place: Option<Place>, together: &Together, out: &mut impl Egress) {
        match place {
            Some(place) => self.paths[leg.index()].take_out(place, together),
            None => self.paths[leg.index()].hear_waiting(),
        }
        self.report_presses(leg, out);
    }

    /// Takes a datagram from the RTP socket of `leg`. What is to be heard of it waits for [`Session::hear`] or
    /// [`Session::take_out`], or for whatever the path is told next. It `came` at the latest now.
    pub(super) fn handle_rtp(
        &mut self,
        now: Instant,
        came: Instant,
        leg: Leg,
        source: SocketAddr,
        bytes: &[u8],
        out: &mut impl Egress,
    ) {
        if self.legs[leg.index()].media.opaque {
            return self.pass_opaque(now, leg, source, bytes, out);
        }
        let side = &mut self.legs[leg.index()];
        if side.secure.shakes_hands() && Handshake::is_dtls(bytes) {
            // Of nobody but the signalled address, learnt or not (threats R4).
            if side.is_signalled(source) {
                side.secure.handle_handshake(now, bytes);
                self.shake_hands(now, leg, out);
            } else {
                side.stats.foreign += 1;
            }
            return;
        }
        if side.media.rtcp_mux && rtcp::is_rtcp(bytes) {
            return side.handle_rtcp(now, source, bytes);
        }
        if side.origin(source) == Origin::Foreign || !side.media.receive {
            return;
        }
        if !side.secure.is_on() {
            return self.handle_opened(now, came, leg, source, bytes, out);
        }
        // Nothing but its source is looked at before the tag is found good (threats R2, R3).
        if let Some((room, length)) = side.secure.open(bytes, false, &mut side.stats) {
            self.handle_opened(now, came, leg, source, &room[..length], out);
            self.legs[leg.index()].secure.give_back(room);
        }
    }

    /// Takes a datagram of a stream that is no RTP: it goes on into another such stream, if the guard lets it.
    fn pass_opaque(&mut self, now: Instant, leg: Leg, source: SocketAddr, bytes: &[u8], out: &mut impl Egress) {
        let side = &mut self.legs[leg.index()];
        if !side.is_signalled(source) {
            side.stats.foreign += 1;
            return;
        }
        if !side.media.receive {
            return;
        }
        side.stats.received += 1;
        if !self.inactivity.is_zero() {
            self.inactive_at = Some(now + self.inactivity);
        }
        // The customer's mask stops both directions: what cannot be read cannot be judged.
        let Some(datagram) = self.paths[Leg::Customer.index()].pass(bytes) else { return };
        let to = leg.other();
        let other = &mut self.legs[to.index()];
        let destination = other.rtp_to().filter(|_| other.media.opaque && other.media.send);
        if let Some(destination) = destination {
            other.stats.sent += 1;
            out.rtp(self.id, to, destination, datagram);
        }
    }

    /// Gets on with the handshake of a leg.
    fn shake_hands(&mut self, now: Instant, leg: Leg, out: &mut impl Egress) {
        let side = &mut self.legs[leg.index()];
        let to = side.media.remote_rtp.filter(|to| side.is_signalled(*to));
        side.secure.go_on(now, |packet| {
            if let Some(to) = to {
                out.rtp(self.id, leg, to, packet);
            }
        });
    }

    /// Takes an RTP packet of the peer as it is in the clear.
    fn handle_opened(
        &mut self,
        now: Instant,
        came: Instant,
        leg: Leg,
        source: SocketAddr,
        bytes: &[u8],
        out: &mut impl Egress,
    ) {
        let side = &mut self.legs[leg.index()];
        let Ok(view) = View::parse(bytes) else {
            side.stats.malformed += 1;
            return;
        };
        if !side.is_from_peer(source, &view) {
            return;
        }
        if side.kind(view.payload_type()) == Kind::Unknown {
            // Counted in sequence all the same, so that it is not taken for loss.
            side.stats.malformed += 1;
        }
        match side.accept(came, &view, bytes) {
            Accepted::No => {}
            Accepted::Yes(arrival) => self.take(now, leg, &arrival, &view, out),
            Accepted::Both(earlier, arrival) => {
                let (kept, length) = self.legs[leg.index()].kept();
                if let Ok(first) = View::parse(&kept[..length]) {
                    self.take(now, leg, &earlier, &first, out);
                }
                self.take(now, leg, &arrival, &view, out);
            }
        }
    }

    fn take(&mut self, now: Instant, leg: Leg, arrival: &Arrival, view: &View<'_>, out: &mut impl Egress) {
        if !self.inactivity.is_zero() {
            self.inactive_at = Some(now + self.inactivity);
        }
        match self.legs[leg.index()].kind(view.payload_type()) {
            Kind::Redundant => {
                // An empty list when the payload does not add up: the packet is then left out.
                let blocks = red::blocks(view.payload(), view.timestamp()).unwrap_or_default();
                let sound =
                    blocks.iter().find(|block| block.primary).map(|block| (block.payload_type, block.timestamp));
                let arrival = &self.legs[leg.index()].unpacked(arrival, sound);
                for block in blocks {
                    let kind = self.legs[leg.index()].kind(block.payload_type);
                    let arrival = self.legs[leg.index()].block(kind, block.timestamp, arrival);
                    self.payload(now, leg, &arrival, view.ssrc(), kind, block.payload, block.primary, out);
                }
            }
            kind => self.payload(now, leg, arrival, view.ssrc(), kind, view.payload(), true, out),
        }
        self.report_presses(leg, out);
    }

    #[allow(clippy::too_many_arguments)]
    fn payload(
        &mut self,
        now: Instant,
        leg: Leg,
        arrival: &Arrival,
        ssrc: u32,
        kind: Kind,
        payload: &[u8],
        primary: bool,
        out: &mut impl Egress,
    ) {
        let path = &mut self.paths[leg.index()];
        let mut out = delivery(self.id, leg, now, &mut self.legs, &mut self.tap, out);
        match kind {
            Kind::Audio(codec) => path.handle_audio(now, arrival, codec, payload, primary, &mut out),
            Kind::Event(clock) => path.handle_event(now, arrival, ssrc, clock, payload, primary, &mut out),
            Kind::ComfortNoise if primary => path.handle_comfort_noise(now, arrival, payload, &mut out),
            Kind::Redundant | Kind::Unknown if primary => path.leave_out(arrival),
            Kind::Redundant | Kind::ComfortNoise | Kind::Unknown => {}
        }
    }

    fn report_presses(&mut self, from: Leg, out: &mut impl Egress) {
        while let Some(pressed) = self.paths[from.index()].poll_press() {
            let Pressed { digit, at, masked } = pressed;
            out.event(Event::Digit { session: self.id, from, digit, at, masked });
        }
    }

    /// Takes a datagram from the RTCP socket of `leg`.
    pub(super) fn handle_rtcp(&mut self, now: Instant, leg: Leg, source: SocketAddr, bytes: &[u8]) {
        self.legs[leg.index()].handle_rtcp(now, source, bytes);
    }

    /// Does what is due at `now`.
    pub(super) fn handle_timeout(&mut self, now: Instant, out: &mut impl Egress) {
        for leg in [Leg::Customer, Leg::Agent] {
            let path = &mut self.paths[leg.index()];
            if path.poll_timeout().is_some_and(|at| at <= now) {
                path.handle_timeout(now, &mut delivery(self.id, leg, now, &mut self.legs, &mut self.tap, out));
                self.report_presses(leg, out);
            }
            if self.legs[leg.index()].secure.poll_timeout().is_some_and(|at| at <= now) {
                self.shake_hands(now, leg, out);
            }
            if self.legs[leg.index()].report_due().is_some_and(|at| at <= now) {
                self.send_report(now, leg, false, out);
            }
        }
        self.tap.handle_timeout(now, &mut |block| out.block(self.id, block));
        if self.inactive_at.is_some_and(|at| at <= now) {
            self.inactive_at = None;
            out.event(Event::Inactive { session: self.id });
        }
    }

    fn send_report(&mut self, now: Instant, leg: Leg, bye: bool, out: &mut impl Egress) {
        let stream = self.paths[leg.other().index()].stream();
        let since_start = now.saturating_duration_since(self.began);
        let mux = self.legs[leg.index()].media.rtcp_mux;
        self.legs[leg.index()].report(now, since_start, stream, bye, &mut self.random, |to, packet| {
            if mux { out.rtp(self.id, leg, to, packet) } else { out.rtcp(self.id, leg, to, packet) }
        });
    }

    /// When something is due next.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let mut due = soonest(self.inactive_at, self.tap.poll_timeout());
        for (path, leg) in self.paths.iter().zip(&self.legs) {
            due = soonest(due, soonest(path.poll_timeout(), leg.report_due()));
            due = soonest(due, leg.secure.poll_timeout());
        }
        due
    }
}

/// What takes a path's packets to the other leg's peer and to the tap.
fn delivery<'a>(
    id: SessionId,
    from: Leg,
    now: Instant,
    legs: &'a mut [LegSide; 2],
    tap: &'a mut Tap,
    out: &'a mut impl Egress,
) -> impl FnMut(Sent<'_>) + 'a {
    let to = from.other();
    let destination = legs[to.index()].rtp_to();
    let LegSide { stats, secure, .. } = &mut legs[to.index()];
    move |packet| {
        let Some(destination) = destination else { return };
        tap.feed(now, from, &packet);
        if let Some(packet) = secure.seal(packet.packet, false) {
            stats.sent += 1;
            out.rtp(id, to, destination, packet);
        }
    }
}

fn order_of(guard: Guard) -> Order {
    match guard {
        Guard::Open => Order::Open,
        Guard::Listen => Order::Listen,
        Guard::Withhold => Order::Withhold,
        Guard::Masked(kind) => Order::Masked(kind),
    }
}
