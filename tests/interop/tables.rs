//! The rows of the matrix: each feature, and who is asked for it.

use crate::signalling as sip;
use crate::softphones as phones;
use crate::trunks;

/// The columns: who calls, or is the carrier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    Sipp,
    Kamailio,
    Baresip,
    Linphone,
}

/// One cell.
#[derive(Clone, Copy)]
pub enum Cell {
    /// Panics when it does not work.
    Run(fn(Peer)),
    /// The peer does not have it: why.
    No(&'static str),
}

use Cell::{No, Run};

/// One feature.
pub struct Row {
    pub name: &'static str,
    pub cells: [Cell; 4],
}

/// SIPp and kamailio run one flow, both telephones another.
const fn row(name: &'static str, signalling: fn(Peer), phones: fn(Peer)) -> Row {
    Row { name, cells: [Run(signalling), Run(signalling), Run(phones), Run(phones)] }
}

/// Of SIP alone: the telephones do not have it.
const fn sip_only(name: &'static str, signalling: fn(Peer), baresip: Cell, linphone: Cell) -> Row {
    Row { name, cells: [Run(signalling), Run(signalling), baresip, linphone] }
}

/// Of media: SIPp and kamailio do not have it.
const fn media(name: &'static str, sipp: Cell, phones: fn(Peer)) -> Row {
    Row { name, cells: [sipp, No("does not touch media"), Run(phones), Run(phones)] }
}

const OLD: Cell = No("version 1.0 does not have it");
const NO_CODER: Cell = No("plays files of G.711 only");
const NO_TLS: Cell = No("Debian builds it without TLS");
const NO_SRTP: Cell = No("Debian builds it without SRTP");
const CALLS_ONLY: Cell = No("asks no caller for a password, takes no registrations");
const AGENTS: Cell = No("it is the agent who joins two calls, baresip, and that one cannot");
const NO_INFO: Cell = No("version 1.0 sends keys as events only");
const NO_EVENTS: Cell = No("sends recorded events only, and needs root for it");

pub const ROWS: &[Row] = &[
    row("call over UDP", sip::udp, phones::udp),
    row("call over TCP", sip::tcp, phones::tcp),
    Row { name: "call over TLS", cells: [NO_TLS, Run(sip::tls), Run(phones::tls), Run(phones::tls)] },
    row("call from IPv6 to IPv4", sip::ipv6, phones::ipv6),
    row("early media", sip::early_media, phones::early_media),
    row("forked early media", sip::forked, phones::forked),
    Row {
        name: "the carrier forks our call",
        cells: [
            No("has no two places to try"),
            Run(sip::forked_by_the_carrier),
            No("is no carrier"),
            No("is no carrier"),
        ],
    },
    sip_only("late offer", sip::late_offer, No("always offers"), Run(phones::late_offer)),
    sip_only("100rel and PRACK", sip::reliable, OLD, Run(phones::reliable)),
    sip_only("100rel on one leg only", sip::reliable_on_one_leg, OLD, Run(phones::reliable)),
    sip_only("UPDATE before and after answer", sip::update, OLD, No("sends UPDATE only to refresh a session")),
    sip_only("session timer", sip::session_timer, OLD, Run(phones::session_timer)),
    row("redirection (3xx), followed", sip::redirect_followed, phones::redirect_followed),
    sip_only(
        "redirection (3xx), passed on",
        sip::redirect_passed,
        No("ends the call at a 3xx"),
        Run(phones::redirect_passed),
    ),
    row("failover: 503, silence", sip::failover, phones::failover),
    row("trunk full: 503", trunks::full, phones::full),
    row("OPTIONS probes", trunks::probes, phones::probes),
    row("CANCEL", sip::cancel, phones::cancel),
    row("busy", sip::busy, phones::busy),
    row("the agent hangs up", sip::agent_hangs_up, phones::agent_hangs_up),
    row("hold and resume", sip::hold, phones::hold),
    row("hold and resume by the agent", sip::agent_holds, phones::agent_holds),
    row("REFER by the agent", sip::refer, phones::refer),
    sip_only("REFER with Replaces", sip::attended, AGENTS, AGENTS),
    row("header rules", sip::headers, phones::headers),
    row("numbers translated", sip::numbers, phones::numbers),
    sip_only("tel: URIs", sip::tel, No("dials sip: addresses only"), No("dials sip: addresses only")),
    sip_only("MESSAGE within a call", sip::message, No("writes outside calls only"), No("writes outside calls only")),
    row("password asked of the caller", trunks::password_asked, phones::password_asked),
    sip_only("password given to the carrier", trunks::password_given, CALLS_ONLY, CALLS_ONLY),
    sip_only("registration with the carrier", trunks::registers, CALLS_ONLY, CALLS_ONLY),
    sip_only("fax (T.38) declined", sip::fax, No("has no fax"), No("has no fax")),
    sip_only("comfort noise", sip::comfort_noise, No("has none"), No("its command line cannot switch it on")),
    sip_only("keys by INFO, unguarded", sip::info, NO_INFO, Run(phones::info)),
    sip_only("keys by INFO, masked", sip::info_masked, NO_INFO, Run(phones::info_masked)),
    media("keys by events, masked", NO_EVENTS, phones::events_masked),
    media("keys by tones, masked", Run(sip::tones_masked), phones::tones_masked),
    media("the agent's star code masks", NO_EVENTS, phones::star_code),
    media("SRTP (SDES)", NO_SRTP, phones::srtp),
    media("SRTP, another suite on each leg", NO_SRTP, phones::srtp_both),
    Row {
        name: "SRTP by DTLS",
        cells: [
            NO_SRTP,
            No("does not touch media"),
            No("its DTLS has RSA certificates only, ours elliptic curves"),
            Run(phones::dtls),
        ],
    },
    Row {
        name: "TLS and SRTP",
        cells: [NO_TLS, No("does not touch media"), Run(phones::tls_srtp), Run(phones::tls_srtp)],
    },
    media("RTP and RTCP on one port", No("has two ports, always"), phones::one_port),
    media("packets of 30 ms, masked", No("plays packets of 20 ms only"), phones::packets_of_30_ms),
    media("G.722, masked", NO_CODER, phones::g722),
    media("Opus, masked", NO_CODER, phones::opus),
    media("G.722 and Opus to G.711", NO_CODER, phones::coded_anew),
];
