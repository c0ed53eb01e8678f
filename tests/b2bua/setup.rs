//! Setting up and ending calls.

use tonewall::call::{Actor, CallState, RecorderReport, Signal};
use tonewall::config::{RecordingPolicy, Role, TrunkId};
use tonewall::media::Tap;
use tonewall::obs::event::{EndCause, EventKind};

use crate::harness::*;

#[test]
fn a_call_is_set_up_answered_and_ended_by_the_caller() {
    let mut w = World::new();
    let mut up = w.call();
    assert_eq!(w.view().state, CallState::Answered);
    let legs = &w.session().legs;
    assert_eq!(legs[0].remote_rtp, Some("192.0.2.10:6000".parse().expect("address")));
    assert_eq!(legs[1].remote_rtp, Some("10.1.0.20:7000".parse().expect("address")));
    assert!(legs.iter().all(|leg| leg.send && leg.receive && leg.tx.event.is_some()));
    w.hang_up(&mut up.caller, Who::Pbx);
    assert_eq!(w.ended(), [(EndCause::CustomerHungUp, None)]);
    w.expect_clean();
}

#[test]
fn the_agent_may_call_out_and_either_side_may_hang_up() {
    let mut w = World::new();
    let mut up = w.call_from(Who::Pbx, Who::Carrier);
    let view = w.view();
    assert_eq!((view.from_trunk.as_str(), view.to_trunk.as_str()), ("pbx", "carrier"));
    w.hang_up(&mut up.callee, Who::Pbx);
    assert_eq!(w.ended(), [(EndCause::CustomerHungUp, None)]);
    w.expect_clean();
}

#[test]
fn early_media_flows_before_the_answer_and_ringing_is_passed_on() {
    let mut w = World::new();
    let Dialling { mut caller, theirs, .. } = w.dial();
    let early = reply(Who::Pbx, &theirs, 183, "t").with_body("application/sdp", sdp(Who::Pbx, 1, "8", "sendrecv"));
    w.send(Who::Pbx, &early);
    let progress = w.expect(Who::Carrier, "183");
    assert!(String::from_utf8_lossy(&progress.body).contains("a=rtpmap:8 PCMA/8000"));
    assert!(!String::from_utf8_lossy(&progress.body).contains("PCMU"));
    assert!(w.session().legs.iter().all(|leg| leg.send && leg.receive));
    w.send(Who::Pbx, &reply(Who::Pbx, &theirs, 180, "t"));
    w.expect(Who::Carrier, "180");
    // The 200 repeats nothing: the early answer stands.
    w.send(Who::Pbx, &reply(Who::Pbx, &theirs, 200, "t"));
    let ok = w.expect(Who::Carrier, "200");
    assert_eq!(ok.body, progress.body);
    assert_eq!(ok.get("to"), progress.get("to"));
    caller.follow(&ok);
    let ack = caller.ack(&mut w);
    w.send(Who::Carrier, &ack);
    w.expect(Who::Pbx, "ACK");
    w.hang_up(&mut caller, Who::Pbx);
    w.expect_clean();
}

#[test]
fn a_refusal_is_passed_on_and_what_is_not_the_callers_business_is_mapped() {
    for (theirs, ours) in
        [(486, 486), (404, 404), (603, 603), (401, 403), (407, 403), (302, 480), (488, 488), (420, 500), (699, 603)]
    {
        let mut w = World::new();
        let Dialling { mut caller, invite, theirs: asked, .. } = w.dial();
        w.send(Who::Pbx, &reply(Who::Pbx, &asked, theirs, "t"));
        w.expect(Who::Pbx, "ACK");
        w.expect(Who::Carrier, &ours.to_string());
        let ack = caller.ack(&mut w);
        w.send(Who::Carrier, &with_branch(ack, &invite));
        assert_eq!(w.ended(), [(EndCause::Rejected, Some(ours))]);
        w.expect_clean();
    }
}

#[test]
fn cancel_before_any_provisional_waits_for_one_and_then_goes_out() {
    let mut w = World::new();
    let Dialling { mut caller, invite, theirs, .. } = w.dial();
    let cancel = caller.request(&mut w, "CANCEL");
    w.send(Who::Carrier, &with_branch(cancel, &invite));
    w.expect(Who::Carrier, "200");
    w.expect(Who::Carrier, "487");
    w.expect_silence(Who::Pbx);
    w.send(Who::Pbx, &reply(Who::Pbx, &theirs, 100, ""));
    let cancel = w.expect(Who::Pbx, "CANCEL");
    w.send(Who::Pbx, &reply(Who::Pbx, &cancel, 200, "t"));
    w.send(Who::Pbx, &reply(Who::Pbx, &theirs, 487, "t"));
    w.expect(Who::Pbx, "ACK");
    assert_eq!(w.ended(), [(EndCause::Cancelled, Some(487))]);
    w.expect_clean();
}

#[test]
fn cancel_while_ringing_ends_both_legs() {
    let mut w = World::new();
    let Dialling { mut caller, invite, theirs, .. } = w.dial();
    w.send(Who::Pbx, &reply(Who::Pbx, &theirs, 180, "t"));
    w.expect(Who::Carrier, "180");
    let cancel = caller.request(&mut w, "CANCEL");
    w.send(Who::Carrier, &with_branch(cancel, &invite));
    w.expect(Who::Carrier, "200");
    w.expect(Who::Carrier, "487");
    let cancel = w.expect(Who::Pbx, "CANCEL");
    assert_eq!(cancel.branch(), theirs.branch());
    w.send(Who::Pbx, &reply(Who::Pbx, &cancel, 200, "t"));
    w.send(Who::Pbx, &reply(Who::Pbx, &theirs, 487, "t"));
    w.expect(Who::Pbx, "ACK");
    w.expect_clean();
}

#[test]
fn cancel_that_crosses_the_200_sends_ack_and_bye() {
    let mut w = World::new();
    let Dialling { mut caller, invite, theirs, .. } = w.dial();
    w.send(Who::Pbx, &reply(Who::Pbx, &theirs, 180, "t"));
    let cancel = caller.request(&mut w, "CANCEL");
    w.send(Who::Carrier, &with_branch(cancel, &invite));
    w.expect(Who::Pbx, "CANCEL");
    let ok = reply(Who::Pbx, &theirs, 200, "t").with_body("application/sdp", sdp(Who::Pbx, 1, BOTH, "sendrecv"));
    w.send(Who::Pbx, &ok);
    w.expect(Who::Pbx, "ACK");
    let bye = w.expect(Who::Pbx, "BYE");
    w.send(Who::Pbx, &reply(Who::Pbx, &bye, 200, ""));
    assert_eq!(w.ended(), [(EndCause::Cancelled, Some(487))]);
    w.expect_clean();
}

#[test]
fn cancel_after_the_200_changes_nothing() {
    let mut w = World::new();
    let Dialling { mut caller, invite, theirs, .. } = w.dial();
    let ok = reply(Who::Pbx, &theirs, 200, "t").with_body("application/sdp", sdp(Who::Pbx, 1, BOTH, "sendrecv"));
    w.send(Who::Pbx, &ok);
    let answer = w.expect(Who::Carrier, "200");
    let cancel = caller.request(&mut w, "CANCEL");
    w.send(Who::Carrier, &with_branch(cancel, &invite));
    caller.follow(&answer);
    let ack = caller.ack(&mut w);
    w.send(Who::Carrier, &ack);
    assert_eq!(w.view().state, CallState::Answered);
    w.inbox.clear();
    w.hang_up(&mut caller, Who::Pbx);
    w.expect_clean();
}

#[test]
fn a_lost_ack_ends_both_legs() {
    let mut w = World::new();
    let theirs = w.dial().theirs;
    let ok = reply(Who::Pbx, &theirs, 200, "t").with_body("application/sdp", sdp(Who::Pbx, 1, BOTH, "sendrecv"));
    w.send(Who::Pbx, &ok);
    w.expect(Who::Pbx, "ACK");
    w.advance(31 * SEC);
    assert_eq!(w.engine.calls(), 1);
    w.advance(2 * SEC);
    assert_eq!(w.ended(), [(EndCause::Timeout, None)]);
    let bye = w.expect(Who::Pbx, "BYE");
    w.send(Who::Pbx, &reply(Who::Pbx, &bye, 200, ""));
    let repeated = w.inbox[&Who::Carrier].iter().filter(|m| m.status() == Some(200)).count();
    assert!(repeated > 5, "the 200 was repeated {repeated} times");
    assert!(w.inbox[&Who::Carrier].iter().any(|m| m.method() == Some("BYE")));
    w.expect_clean();
}

#[test]
fn a_bye_of_the_callee_before_the_ack_waits_for_the_ack() {
    let mut w = World::new();
    let Dialling { mut caller, theirs, .. } = w.dial();
    let ok = reply(Who::Pbx, &theirs, 200, "t").with_body("application/sdp", sdp(Who::Pbx, 1, BOTH, "sendrecv"));
    w.send(Who::Pbx, &ok);
    w.expect(Who::Pbx, "ACK");
    let answer = w.expect(Who::Carrier, "200");
    let mut callee = Line::called(Who::Pbx, &theirs, "t");
    let bye = callee.request(&mut w, "BYE");
    w.send(Who::Pbx, &bye);
    w.expect(Who::Pbx, "200");
    w.expect_silence(Who::Carrier);
    caller.follow(&answer);
    let ack = caller.ack(&mut w);
    w.send(Who::Carrier, &ack);
    let bye = w.expect(Who::Carrier, "BYE");
    w.send(Who::Carrier, &reply(Who::Carrier, &bye, 200, ""));
    assert_eq!(w.ended(), [(EndCause::AgentHungUp, None)]);
    w.expect_clean();
}

#[test]
fn both_sides_hanging_up_at_once_get_their_200() {
    let mut w = World::new();
    let mut up = w.call();
    let a = up.caller.request(&mut w, "BYE");
    let b = up.callee.request(&mut w, "BYE");
    w.send(Who::Carrier, &a);
    w.send(Who::Pbx, &b);
    w.expect(Who::Carrier, "200");
    let ours = w.expect(Who::Pbx, "BYE");
    w.expect(Who::Pbx, "200");
    w.send(Who::Pbx, &reply(Who::Pbx, &ours, 200, ""));
    assert_eq!(w.ended(), [(EndCause::CustomerHungUp, None)]);
    w.expect_clean();
}

#[test]
fn forks_ring_apart_and_only_the_one_that_answers_is_connected() {
    let mut w = World::new();
    let Dialling { mut caller, theirs, .. } = w.dial();
    let mut tags = vec![];
    for fork in 0..10 {
        let early = reply(Who::Pbx, &theirs, 183, &format!("fork{fork}"));
        let formats = if fork % 2 == 0 { "0 101" } else { "8 101" };
        w.send(Who::Pbx, &early.with_body("application/sdp", sdp(Who::Pbx, 1, formats, "sendrecv")));
        if fork < 8 {
            tags.push(w.expect(Who::Carrier, "183").get("to").expect("To").to_owned());
        }
    }
    w.expect_silence(Who::Carrier);
    tags.dedup();
    assert_eq!(tags.len(), 8, "each fork speaks in a dialog of its own");
    let answer = |fork: &str, formats| {
        reply(Who::Pbx, &theirs, 200, fork).with_body("application/sdp", sdp(Who::Pbx, 1, formats, "sendrecv"))
    };
    w.send(Who::Pbx, &answer("fork3", "8 101"));
    let ack = w.expect(Who::Pbx, "ACK");
    assert!(ack.get("to").is_some_and(|to| to.ends_with("fork3")));
    let ok = w.expect(Who::Carrier, "200");
    assert_eq!(ok.get("to"), Some(tags[3].as_str()));
    assert!(String::from_utf8_lossy(&ok.body).contains("PCMA"));
    assert_eq!(w.session().legs[1].tx.audio.len(), 1);
    // A second fork answers late: it gets its ACK and its BYE, and the call goes on.
    w.send(Who::Pbx, &answer("fork5", "8 101"));
    let ack = w.expect(Who::Pbx, "ACK");
    assert!(ack.get("to").is_some_and(|to| to.ends_with("fork5")));
    let bye = w.expect(Who::Pbx, "BYE");
    assert!(bye.get("to").is_some_and(|to| to.ends_with("fork5")));
    w.send(Who::Pbx, &reply(Who::Pbx, &bye, 200, ""));
    // Its answer repeated is only acknowledged again.
    w.send(Who::Pbx, &answer("fork5", "8 101"));
    w.expect(Who::Pbx, "ACK");
    w.expect_silence(Who::Pbx);
    caller.follow(&ok);
    let ack = caller.ack(&mut w);
    w.send(Who::Carrier, &ack);
    assert_eq!(w.engine.calls(), 1);
    w.hang_up(&mut caller, Who::Pbx);
    w.expect_clean();
}

#[test]
fn a_late_offer_crosses_in_200_and_ack() {
    let mut w = World::new();
    let mut caller = Line::new(&mut w, Who::Carrier, "1001");
    let invite = caller.request(&mut w, "INVITE");
    w.send(Who::Carrier, &invite);
    let theirs = w.expect(Who::Pbx, "INVITE");
    assert!(theirs.body.is_empty());
    let ok = reply(Who::Pbx, &theirs, 200, "t").with_body("application/sdp", sdp(Who::Pbx, 1, BOTH, "sendrecv"));
    w.send(Who::Pbx, &ok);
    w.expect_silence(Who::Pbx);
    let offered = w.expect(Who::Carrier, "200");
    assert!(String::from_utf8_lossy(&offered.body).contains("PCMU"));
    caller.follow(&offered);
    let ack = caller.ack(&mut w).with_body("application/sdp", sdp(Who::Carrier, 1, "8 101", "sendrecv"));
    w.send(Who::Carrier, &ack);
    let ack = w.expect(Who::Pbx, "ACK");
    let answer = String::from_utf8_lossy(&ack.body).into_owned();
    assert!(answer.contains("PCMA") && !answer.contains("PCMU"), "{answer}");
    assert!(w.session().legs.iter().all(|leg| leg.send && leg.receive));
    w.hang_up(&mut caller, Who::Pbx);
    w.expect_clean();
}

#[test]
fn a_late_offer_whose_ack_brings_no_answer_ends_the_call() {
    let mut w = World::new();
    let mut caller = Line::new(&mut w, Who::Carrier, "1001");
    let invite = caller.request(&mut w, "INVITE");
    w.send(Who::Carrier, &invite);
    let theirs = w.expect(Who::Pbx, "INVITE");
    let ok = reply(Who::Pbx, &theirs, 200, "t").with_body("application/sdp", sdp(Who::Pbx, 1, BOTH, "sendrecv"));
    w.send(Who::Pbx, &ok);
    let offered = w.expect(Who::Carrier, "200");
    caller.follow(&offered);
    let ack = caller.ack(&mut w);
    w.send(Who::Carrier, &ack);
    w.expect(Who::Pbx, "ACK");
    let bye = w.expect(Who::Pbx, "BYE");
    w.send(Who::Pbx, &reply(Who::Pbx, &bye, 200, ""));
    let bye = w.expect(Who::Carrier, "BYE");
    w.send(Who::Carrier, &reply(Who::Carrier, &bye, 200, ""));
    assert_eq!(w.ended(), [(EndCause::Failure, None)]);
    w.expect_clean();
}

fn with_standby() -> World {
    World::with(|config| config.trunks[1].remotes.push(Who::Standby.at()))
}

#[test]
fn the_next_target_is_tried_after_503_silence_and_a_broken_transport() {
    for failure in ["503", "silence", "transport"] {
        let mut w = with_standby();
        let mut caller = Line::new(&mut w, Who::Carrier, "1001");
        let invite = caller.offer(&mut w, "INVITE", &sdp(Who::Carrier, 1, BOTH, "sendrecv"));
        w.send(Who::Carrier, &invite);
        let first = w.expect(Who::Pbx, "INVITE");
        match failure {
            "503" => w.send(Who::Pbx, &reply(Who::Pbx, &first, 503, "t")),
            "silence" => w.advance(4 * SEC),
            _ => {
                w.engine.handle_flow_failed(w.now, &World::flow(Who::Pbx).back());
                w.drain();
            }
        }
        let second = w.expect(Who::Standby, "INVITE");
        assert_ne!(first.get("call-id"), second.get("call-id"));
        let ok = reply(Who::Standby, &second, 200, "s");
        w.send(Who::Standby, &ok.with_body("application/sdp", sdp(Who::Standby, 1, BOTH, "sendrecv")));
        let ok = w.expect(Who::Carrier, "200");
        caller.follow(&ok);
        let ack = caller.ack(&mut w);
        w.send(Who::Carrier, &ack);
        w.expect(Who::Standby, "ACK");
        if failure == "silence" {
            // The silent one wakes up and answers: it is let go.
            w.inbox.remove(&Who::Pbx);
            let late = reply(Who::Pbx, &first, 200, "t");
            w.send(Who::Pbx, &late.with_body("application/sdp", sdp(Who::Pbx, 1, BOTH, "sendrecv")));
            w.expect(Who::Pbx, "ACK");
            let bye = w.expect(Who::Pbx, "BYE");
            w.send(Who::Pbx, &reply(Who::Pbx, &bye, 200, ""));
        }
        w.hang_up(&mut caller, Who::Standby);
        w.expect_clean();
    }
}

#[test]
fn a_target_that_never_answers_is_408_after_timer_b() {
    let mut w = World::new();
    let mut caller = Line::new(&mut w, Who::Carrier, "1001");
    let invite = caller.offer(&mut w, "INVITE", &sdp(Who::Carrier, 1, BOTH, "sendrecv"));
    w.send(Who::Carrier, &invite);
    w.advance(33 * SEC);
    w.expect(Who::Carrier, "408");
    assert_eq!(w.ended(), [(EndCause::Rejected, Some(408))]);
    w.expect_clean();
}

#[test]
fn ringing_for_ever_ends_at_the_deadline() {
    let mut w = World::new();
    let theirs = w.dial().theirs;
    w.send(Who::Pbx, &reply(Who::Pbx, &theirs, 180, "t"));
    w.expect(Who::Carrier, "180");
    w.advance(186 * SEC);
    w.expect(Who::Carrier, "480");
    w.expect(Who::Pbx, "CANCEL");
    assert_eq!(w.ended(), [(EndCause::Timeout, Some(480))]);
    w.expect_clean();
}

#[test]
fn no_media_ends_the_call_unless_a_leg_is_on_hold() {
    let mut w = World::new();
    let mut up = w.call();
    let session = *w.ledger.sessions.keys().next().expect("a session");
    let hold = up.callee.offer(&mut w, "INVITE", &sdp(Who::Pbx, 2, BOTH, "sendonly"));
    w.send(Who::Pbx, &hold);
    let theirs = w.expect(Who::Carrier, "INVITE");
    let ok = reply(Who::Carrier, &theirs, 200, "");
    w.send(Who::Carrier, &ok.with_body("application/sdp", sdp(Who::Carrier, 2, BOTH, "recvonly")));
    w.expect(Who::Pbx, "200");
    let ack = up.callee.ack(&mut w);
    w.send(Who::Pbx, &ack);
    w.expect(Who::Carrier, "ACK");
    w.engine.handle_media(w.now, tonewall::media::Event::Inactive { session });
    w.drain();
    assert_eq!(w.engine.calls(), 1);
    // Silence on hold proves nothing: both are asked.
    for who in [Who::Carrier, Who::Pbx] {
        let probe = w.expect(who, "OPTIONS");
        w.send(who, &reply(who, &probe, 200, ""));
    }
    let resume = up.callee.offer(&mut w, "INVITE", &sdp(Who::Pbx, 3, BOTH, "sendrecv"));
    w.send(Who::Pbx, &resume);
    let theirs = w.expect(Who::Carrier, "INVITE");
    let ok = reply(Who::Carrier, &theirs, 200, "");
    w.send(Who::Carrier, &ok.with_body("application/sdp", sdp(Who::Carrier, 3, BOTH, "sendrecv")));
    w.expect(Who::Pbx, "200");
    let ack = up.callee.ack(&mut w);
    w.send(Who::Pbx, &ack);
    w.engine.handle_media(w.now, tonewall::media::Event::Inactive { session });
    w.drain();
    assert_eq!(w.ended(), [(EndCause::MediaInactivity, None)]);
    w.expect(Who::Carrier, "ACK");
    w.expect(Who::Carrier, "BYE");
    w.expect(Who::Pbx, "BYE");
    w.expect_clean();
}

#[test]
fn a_call_whose_ends_vanish_on_hold_is_ended() {
    let mut w = World::new();
    let mut up = w.call();
    let session = *w.ledger.sessions.keys().next().expect("a session");
    let hold = up.callee.offer(&mut w, "UPDATE", &sdp(Who::Pbx, 2, BOTH, "inactive"));
    w.send(Who::Pbx, &hold);
    let theirs = w.expect(Who::Carrier, "UPDATE");
    let ok = reply(Who::Carrier, &theirs, 200, "");
    w.send(Who::Carrier, &ok.with_body("application/sdp", sdp(Who::Carrier, 2, BOTH, "inactive")));
    w.engine.handle_media(w.now, tonewall::media::Event::Inactive { session });
    w.drain();
    w.advance(40 * SEC);
    assert_eq!(w.ended(), [(EndCause::Timeout, None)]);
    w.expect_clean();
}

#[test]
fn the_operator_ends_a_call_over_the_api_and_at_the_end_of_a_drain() {
    let mut w = World::new();
    w.call();
    let call = w.view().id;
    let auditor = Actor::new("audit", Role::Auditor);
    assert!(w.signal(Signal::HangUp { call, actor: auditor }).is_err());
    w.signal(Signal::HangUp { call, actor: actor() }).expect("granted");
    w.expect(Who::Carrier, "BYE");
    w.expect(Who::Pbx, "BYE");
    let _up = w.call();
    w.engine.drain(w.now);
    let mut caller = Line::new(&mut w, Who::Carrier, "1001");
    let invite = caller.offer(&mut w, "INVITE", &sdp(Who::Carrier, 1, BOTH, "sendrecv"));
    w.send(Who::Carrier, &invite);
    let busy = w.expect(Who::Carrier, "503");
    assert!(busy.get("retry-after").is_some());
    assert_eq!(w.engine.calls(), 1);
    w.engine.hang_up_all(w.now);
    w.drain();
    w.expect(Who::Carrier, "BYE");
    w.expect(Who::Pbx, "BYE");
    assert_eq!(w.ended(), [(EndCause::Operator, None), (EndCause::Operator, None)]);
    w.expect_clean();
}

#[test]
fn a_recording_opens_at_the_answer_and_closes_after_the_last_block() {
    let mut w = World::with(|config| config.trunks[0].recording = RecordingPolicy::BestEffort);
    let mut up = w.call();
    assert_eq!((w.ledger.recordings_open, w.session().tap), (1, Tap::On));
    w.hang_up(&mut up.caller, Who::Pbx);
    let states: Vec<_> = w.events.iter().filter(|e| matches!(e, EventKind::Recording { .. })).collect();
    assert_eq!(states.len(), 2, "{states:?}");
    w.expect_clean();
}

#[test]
fn a_required_recorder_that_fails_ends_the_call_and_another_does_not() {
    for (policy, calls) in [(RecordingPolicy::Required, 0), (RecordingPolicy::BestEffort, 1)] {
        let mut w = World::with(|config| config.trunks[1].recording = policy);
        w.call();
        let recording = w.view().recording.expect("recording").id;
        w.engine.handle_recorder(w.now, recording, RecorderReport::Failed);
        w.drain();
        assert_eq!(w.engine.calls(), calls);
        if calls == 1 {
            assert_eq!(w.session().tap, Tap::Off);
        } else {
            assert_eq!(w.ended(), [(EndCause::RecorderFailed, None)]);
        }
    }
}

#[test]
fn while_nothing_can_be_recorded_calls_that_must_be_are_refused_before_anybody_hears_of_them() {
    for (trunk, policy, refused) in [
        (0, RecordingPolicy::Required, true),
        (1, RecordingPolicy::Required, true),
        (0, RecordingPolicy::BestEffort, false),
        (1, RecordingPolicy::Off, false),
    ] {
        let mut w = World::with(|config| config.trunks[trunk].recording = policy);
        w.call();
        w.engine.handle_storage(false);
        let mut caller = Line::new(&mut w, Who::Carrier, "1001");
        let invite = caller.offer(&mut w, "INVITE", &sdp(Who::Carrier, 1, BOTH, "sendrecv"));
        w.send(Who::Carrier, &invite);
        if refused {
            let answer = w.expect(Who::Carrier, "503");
            assert_eq!(answer.get("retry-after"), Some("5"), "{}", text(&answer));
            w.expect_silence(Who::Pbx);
        } else {
            w.expect(Who::Pbx, "INVITE");
        }
        // The one that is up goes on: its own recording has not failed.
        assert_eq!(w.engine.calls(), if refused { 1 } else { 2 }, "{policy:?}");
        w.engine.handle_storage(true);
        w.drain();
        let mut caller = Line::new(&mut w, Who::Carrier, "1002");
        let invite = caller.offer(&mut w, "INVITE", &sdp(Who::Carrier, 1, BOTH, "sendrecv"));
        w.send(Who::Carrier, &invite);
        w.expect(Who::Pbx, "INVITE");
    }
}

#[test]
fn a_media_session_that_fails_ends_its_call() {
    let mut w = World::new();
    w.call();
    let session = *w.ledger.sessions.keys().next().expect("a session");
    w.engine.handle_media_failed(w.now, session);
    w.drain();
    assert_eq!(w.ended(), [(EndCause::Failure, None)]);
    w.expect(Who::Carrier, "BYE");
    w.expect(Who::Pbx, "BYE");
    w.expect_clean();
}

#[test]
fn an_invite_repeated_a_thousand_times_is_one_call() {
    let mut w = World::new();
    let mut caller = Line::new(&mut w, Who::Carrier, "1001");
    let invite = caller.offer(&mut w, "INVITE", &sdp(Who::Carrier, 1, BOTH, "sendrecv"));
    for _ in 0..1_000 {
        w.send(Who::Carrier, &invite);
    }
    assert_eq!(w.engine.calls(), 1);
    w.expect(Who::Pbx, "INVITE");
    w.expect_silence(Who::Pbx);
}

#[test]
fn a_tcp_peer_is_answered_and_called_back_on_its_own_connection() {
    let mut w = World::with(|config| config.listeners[0].transport = tonewall::config::Transport::Tcp);
    w.carrier_tcp = Some(7);
    let mut up = w.call();
    assert!(up.caller.target.ends_with(";transport=tcp"), "{}", up.caller.target);
    w.hang_up(&mut up.callee, Who::Carrier);
    assert_eq!(w.dests[&Who::Carrier].connection, Some(7));
    assert_eq!(w.dests[&Who::Pbx].connection, None);
    w.expect_clean();
    // Its connection breaks while the other side rings: nobody is there to hear the answer.
    let theirs = w.dial().theirs;
    w.send(Who::Pbx, &reply(Who::Pbx, &theirs, 180, "t"));
    let dest = w.dests[&Who::Carrier];
    w.engine.handle_flow_failed(w.now, &dest);
    w.drain();
    let ok = reply(Who::Pbx, &theirs, 200, "t").with_body("application/sdp", sdp(Who::Pbx, 1, BOTH, "sendrecv"));
    w.send(Who::Pbx, &ok);
    w.advance(35 * SEC);
    assert_eq!(w.engine.calls(), 0);
    w.expect_clean();
}

#[test]
fn when_another_trunk_is_tried_its_guard_and_star_codes_rule() {
    let codes = |begin: &str| {
        let keys = |text: &str| text.chars().filter_map(tonewall::base::secret::Digit::from_char).collect();
        Some(tonewall::config::StarCodes { begin: keys(begin), end: keys("*9"), in_band: true })
    };
    // The agent calls out; the first carrier is unguarded, the second one's policy is to mask for the whole call.
    let mut w = World::with(|config| {
        let mut second = config.trunks[0].clone();
        config.trunks[0].guard = tonewall::config::GuardMode::Off;
        second.guard = tonewall::config::GuardMode::Always;
        second.name = "second".into();
        config.trunks.push(second);
        config.routes[1].to.push(TrunkId(2));
    });
    let mut caller = Line::new(&mut w, Who::Pbx, "1001");
    let invite = caller.offer(&mut w, "INVITE", &sdp(Who::Pbx, 1, BOTH, "sendrecv"));
    w.send(Who::Pbx, &invite);
    assert!(!w.masked());
    let theirs = w.expect(Who::Carrier, "INVITE");
    w.send(Who::Carrier, &reply(Who::Carrier, &theirs, 503, "t"));
    assert!(w.masked());
    // The customer calls in; the second PBX has star codes.
    let mut w = World::with(|config| {
        let mut second = config.trunks[1].clone();
        second.remotes = vec![Who::Standby.at()];
        second.star_codes = codes("*1");
        config.trunks.push(second);
        config.routes[0].to.push(TrunkId(2));
    });
    let theirs = w.dial().theirs;
    assert_eq!(w.session().toward_customer, tonewall::media::Guard::Open);
    w.send(Who::Pbx, &reply(Who::Pbx, &theirs, 503, "t"));
    assert!(matches!(w.session().toward_customer, tonewall::media::Guard::Masked(_)));
    w.press(tonewall::base::ids::Leg::Agent, "*1");
    assert!(w.masked());
}

#[test]
fn a_key_by_info_before_the_answer_reaches_the_announcement_unless_masked() {
    for guard in [tonewall::config::GuardMode::Signal, tonewall::config::GuardMode::Always] {
        let mut w = World::with(|config| config.trunks[0].guard = guard);
        let Dialling { mut caller, theirs, .. } = w.dial();
        let early = reply(Who::Pbx, &theirs, 183, "t");
        w.send(Who::Pbx, &early.with_body("application/sdp", sdp(Who::Pbx, 1, BOTH, "sendrecv")));
        let progress = w.expect(Who::Carrier, "183");
        caller.follow(&progress);
        let key = caller.request(&mut w, "INFO").with_body("application/dtmf-relay", "Signal=3\r\nDuration=90\r\n");
        w.send(Who::Carrier, &key);
        w.expect(Who::Carrier, "200");
        let sent = usize::from(guard == tonewall::config::GuardMode::Signal);
        assert_eq!((w.ledger.sent_digits.len(), w.ledger.info_digits.len()), (sent, 1));
    }
}

#[test]
fn a_route_may_lead_to_several_trunks() {
    let mut w = World::with(|config| {
        let mut second = config.trunks[1].clone();
        second.name = "pbx2".into();
        second.remotes = vec![Who::Standby.at()];
        config.trunks.push(second);
        config.trunks[1].max_calls = 0;
        config.routes[0].to.push(TrunkId(2));
    });
    w.call_from(Who::Carrier, Who::Standby);
    assert_eq!(w.view().to_trunk, "pbx2");
}
