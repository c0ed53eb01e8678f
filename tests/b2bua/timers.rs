//! Session timers (RFC 4028): each leg has its own, refreshed by UPDATE or re-INVITE, and ends the call when nobody
//! refreshes it.

use std::time::Duration;

use tonewall::config::{Config, Extension, GuardMode};
use tonewall::obs::event::EndCause;
use tonewall::testkit::simple_sip::Message;

use crate::harness::*;

fn timed(invite: Message, expires: &str) -> Message {
    invite
        .with("Supported", "timer")
        .with("Session-Expires", expires)
        .with_body("application/sdp", sdp(Who::Carrier, 1, BOTH, "sendrecv"))
}

fn plain(invite: Message) -> Message {
    invite.with_body("application/sdp", sdp(Who::Carrier, 1, BOTH, "sendrecv"))
}

/// A peer that knows no UPDATE.
fn without_update(mut message: Message) -> Message {
    for (name, value) in &mut message.headers {
        if name == "Allow" {
            *value = "INVITE, ACK, BYE, CANCEL".into();
        }
    }
    message
}

/// The PBX answers `d` with this Session-Expires, and the call is up.
fn connect(w: &mut World, d: &mut Dialling, expires: Option<&str>) -> Message {
    let mut ok = d.described(200, "t", BOTH);
    if let Some(expires) = expires {
        ok = ok.with("Session-Expires", expires);
    }
    w.send(Who::Pbx, &ok);
    w.expect(Who::Pbx, "ACK");
    d.connect(w)
}

fn minutes(n: u32) -> Duration {
    60 * SEC * n
}

#[test]
fn a_session_is_refreshed_by_update_at_half_its_time() {
    let mut w = World::with(|config| config.trunks[0].guard = GuardMode::Always);
    let mut d = w.dial_with(plain);
    assert_eq!(d.theirs.get("session-expires"), Some("1800"));
    assert_eq!(d.theirs.get("min-se"), Some("90"));
    assert_eq!(d.theirs.get("supported"), Some("100rel, timer"));
    let ok = connect(&mut w, &mut d, Some("600;refresher=uac"));
    assert_eq!(ok.get("session-expires"), None, "a caller without the extension");
    for _ in 0..5 {
        w.advance(minutes(5) - SEC);
        w.expect_silence(Who::Pbx);
        w.advance(SEC);
        let update = w.expect(Who::Pbx, "UPDATE");
        assert!(update.body.is_empty());
        assert_eq!(update.get("session-expires"), Some("600;refresher=uac"));
        let ok = reply(Who::Pbx, &update, 200, "").with("Session-Expires", "600;refresher=uac");
        w.send(Who::Pbx, &ok);
        assert!(w.masked());
    }
    w.expect_silence(Who::Carrier);
    w.hang_up(&mut d.caller, Who::Pbx);
    w.expect_clean();
}

#[test]
fn a_peer_without_update_is_refreshed_by_the_same_description() {
    let mut w = World::new();
    let mut d = w.dial_with(plain);
    let offered = text(&d.theirs);
    let ok = without_update(d.described(200, "t", BOTH)).with("Session-Expires", "200;refresher=uac");
    w.send(Who::Pbx, &ok);
    w.expect(Who::Pbx, "ACK");
    d.connect(&mut w);
    let before = w.session().legs.clone();
    w.advance(100 * SEC);
    let again = w.expect(Who::Pbx, "INVITE");
    assert_eq!(text(&again), offered, "the same version of the same description");
    // While it is asked, a change of the other side has to wait.
    let hold = d.caller.offer(&mut w, "INVITE", &sdp(Who::Carrier, 2, BOTH, "sendonly"));
    w.send(Who::Carrier, &hold);
    w.expect(Who::Carrier, "491");
    let ok = reply(Who::Pbx, &again, 200, "").with("Session-Expires", "200;refresher=uac");
    w.send(Who::Pbx, &ok.with_body("application/sdp", sdp(Who::Pbx, 1, BOTH, "sendrecv")));
    w.expect(Who::Pbx, "ACK");
    assert_eq!(w.session().legs, before);
    w.advance(101 * SEC);
    w.expect(Who::Pbx, "INVITE");
    assert_eq!(w.engine.calls(), 1);
}

#[test]
fn a_session_that_its_peer_does_not_refresh_ends_on_both_legs() {
    let mut w = World::new();
    let mut d = w.dial_with(|invite| timed(invite, "300;refresher=uac"));
    let ok = connect(&mut w, &mut d, None);
    assert_eq!((ok.get("session-expires"), ok.get("require")), (Some("300;refresher=uac"), Some("timer")));
    // Refreshed once by UPDATE, once by re-INVITE, then no more.
    w.advance(200 * SEC);
    let update = d.caller.request(&mut w, "UPDATE").with("Supported", "timer");
    w.send(Who::Carrier, &update.with("Session-Expires", "300;refresher=uac"));
    assert_eq!(w.expect(Who::Carrier, "200").get("session-expires"), Some("300;refresher=uac"));
    w.advance(200 * SEC);
    let again = d.caller.offer(&mut w, "INVITE", &sdp(Who::Carrier, 1, BOTH, "sendrecv"));
    w.send(Who::Carrier, &again.with("Supported", "timer").with("Session-Expires", "300;refresher=uac"));
    let theirs = w.expect(Who::Pbx, "INVITE");
    w.send(
        Who::Pbx,
        &reply(Who::Pbx, &theirs, 200, "").with_body("application/sdp", sdp(Who::Pbx, 1, BOTH, "sendrecv")),
    );
    w.expect(Who::Pbx, "ACK");
    assert!(d.connect(&mut w).get("session-expires").is_some());
    w.advance(267 * SEC);
    assert_eq!(w.engine.calls(), 1);
    w.advance(SEC);
    assert_eq!(w.ended(), [(EndCause::SessionExpired, None)]);
    for who in [Who::Carrier, Who::Pbx] {
        let bye = w.expect(who, "BYE");
        w.send(who, &reply(who, &bye, 200, ""));
    }
    w.expect_clean();
}

#[test]
fn too_short_a_session_is_422_and_the_call_may_come_again() {
    let mut w = World::with(|config| config.trunks[0].methods.session_min = 120 * SEC);
    let mut caller = Line::new(&mut w, Who::Carrier, "1001");
    let invite = timed(caller.request(&mut w, "INVITE"), "90");
    w.send(Who::Carrier, &invite);
    assert_eq!(w.expect(Who::Carrier, "422").get("min-se"), Some("120"));
    w.expect_silence(Who::Pbx);
    let mut d = w.dial_with(|invite| timed(invite, "120"));
    assert_eq!(connect(&mut w, &mut d, None).get("session-expires"), Some("120;refresher=uac"));
    let change = d.caller.request(&mut w, "UPDATE").with("Supported", "timer").with("Session-Expires", "100");
    w.send(Who::Carrier, &change);
    w.expect(Who::Carrier, "422");
    w.hang_up(&mut d.caller, Who::Pbx);
    w.expect_clean();
}

#[test]
fn a_target_that_wants_a_longer_session_is_asked_again() {
    let mut w = World::new();
    let mut d = w.dial_with(plain);
    w.send(Who::Pbx, &d.reply(422, "t").with("Min-SE", "3600"));
    w.expect(Who::Pbx, "ACK");
    let again = w.expect(Who::Pbx, "INVITE");
    for same in ["call-id", "from", "to", "supported"] {
        assert_eq!(again.get(same), d.theirs.get(same), "{same}");
    }
    assert_eq!(again.body, d.theirs.body);
    assert_eq!(again.cseq().expect("CSeq").0, d.theirs.cseq().expect("CSeq").0 + 1);
    assert_eq!((again.get("session-expires"), again.get("min-se")), (Some("3600"), Some("3600")));
    w.expect_silence(Who::Carrier);
    d.theirs = again;
    connect(&mut w, &mut d, Some("3600;refresher=uas"));
    w.hang_up(&mut d.caller, Who::Pbx);
    w.expect_clean();
    // One that never has enough is refused in the end.
    let mut w = World::new();
    let d = w.dial_with(plain);
    let mut asked = d.theirs.clone();
    for round in 1..=4 {
        w.send(Who::Pbx, &reply(Who::Pbx, &asked, 422, "t").with("Min-SE", (1_000 * round).to_string()));
        w.expect(Who::Pbx, "ACK");
        if round < 4 {
            asked = w.expect(Who::Pbx, "INVITE");
        }
    }
    w.expect(Who::Carrier, "500");
    w.expect_silence(Who::Pbx);
}

#[test]
fn a_refresh_that_fails_ends_the_call_or_is_tried_another_way() {
    let up = |w: &mut World| {
        let mut d = w.dial_with(plain);
        connect(w, &mut d, Some("200;refresher=uac"));
        w.advance(100 * SEC);
        let update = w.expect(Who::Pbx, "UPDATE");
        (d, update)
    };
    // The dialog is gone: over, without a BYE to it.
    let mut w = World::new();
    let (_, update) = up(&mut w);
    w.send(Who::Pbx, &reply(Who::Pbx, &update, 481, ""));
    w.expect_silence(Who::Pbx);
    w.expect(Who::Carrier, "BYE");
    assert_eq!(w.ended(), [(EndCause::Timeout, None)]);
    // No UPDATE after all: re-INVITE.
    let mut w = World::new();
    let (_, update) = up(&mut w);
    w.send(Who::Pbx, &reply(Who::Pbx, &update, 405, ""));
    w.expect(Who::Pbx, "INVITE");
    // Busy for the moment: again soon; never: over before the time is up.
    let mut w = World::new();
    let (_, mut update) = up(&mut w);
    for status in [491, 500, 500] {
        w.send(Who::Pbx, &reply(Who::Pbx, &update, status, ""));
        w.expect_silence(Who::Pbx);
        w.advance(6 * SEC);
        update = w.expect(Who::Pbx, "UPDATE");
        w.inbox.clear();
    }
    w.advance(20 * SEC);
    assert_eq!(w.engine.calls(), 1);
    w.advance(50 * SEC);
    assert_eq!(w.engine.calls(), 0);
    // Silence: 408.
    let mut w = World::new();
    up(&mut w);
    w.advance(33 * SEC);
    assert_eq!(w.ended(), [(EndCause::Timeout, None)]);
}

#[test]
fn the_trunk_says_whether_session_timers_are_off_or_demanded() {
    let all = |extension: Extension| {
        move |config: &mut Config| {
            for trunk in &mut config.trunks {
                trunk.methods.session_timer = extension;
            }
        }
    };
    let mut w = World::with(all(Extension::Off));
    let mut caller = Line::new(&mut w, Who::Carrier, "1001");
    let invite = timed(caller.request(&mut w, "INVITE"), "90").with("Require", "timer");
    w.send(Who::Carrier, &invite);
    assert_eq!(w.expect(Who::Carrier, "420").get("unsupported"), Some("timer"));
    let mut d = w.dial_with(|invite| timed(invite, "90"));
    assert_eq!((d.theirs.get("session-expires"), d.theirs.get("supported")), (None, Some("100rel")));
    assert_eq!(connect(&mut w, &mut d, Some("90;refresher=uac")).get("session-expires"), None);
    w.advance(minutes(5));
    w.expect_silence(Who::Pbx);
    assert_eq!(w.engine.calls(), 1);

    let mut w = World::with(all(Extension::Required));
    let mut d = w.dial_with(plain);
    assert_eq!(connect(&mut w, &mut d, None).get("session-expires"), Some("1800;refresher=uas"));
    w.advance(minutes(15));
    for who in [Who::Carrier, Who::Pbx] {
        let update = w.expect(who, "UPDATE");
        w.send(who, &reply(who, &update, 200, ""));
    }
    w.advance(minutes(15));
    w.expect(Who::Carrier, "UPDATE");
    w.expect(Who::Pbx, "UPDATE");
}
