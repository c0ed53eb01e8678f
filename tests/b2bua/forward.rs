//! What was spilled is sent to its recorder in virtual time: target after target, anew after each failure, never beside a call
//! that goes without it, and marked only when the recorder has answered at its end.

use std::time::Duration;

use tonewall::base::Random;
use tonewall::base::ids::{CallId, RecordingId};
use tonewall::base::time::WallMs;
use tonewall::call::{ForkId, ForkReport, OpenedSpill, RecordOrder, SpillReport, WaitingSpill};
use tonewall::obs::event::{EventKind, SpillState};
use tonewall::record::sealed::Start;
use tonewall::record::siprec::Spill;
use tonewall::record::siprec::metadata::{Call, Participant, Uuid};

use crate::harness::*;
use crate::recorders::{PLAIN, Told, takes, theirs, world};

/// A world whose recorder gets one spill at a time.
fn forwarding() -> World {
    world(|config| (config.recorders[0].spill, config.recorders[0].forward_sessions) = (true, 1))
}

const FROM: WallMs = WallMs(1_795_305_600_000);

fn ids(count: usize) -> Vec<RecordingId> {
    let mut random: Random = rand::SeedableRng::seed_from_u64(5);
    (0..count).map(|_| RecordingId::draw(&mut random)).collect()
}

fn waiting(recording: RecordingId, at: u64) -> WaitingSpill {
    WaitingSpill { recording, recorder: "quality".into(), started: WallMs(FROM.0 + at) }
}

/// What is in a spill, with or without what the recorder was to be told.
fn opened(recording: RecordingId, sealed: bool) -> SpillReport {
    let call = CallId::draw(&mut rand::SeedableRng::seed_from_u64(6));
    let seat = |id, leg, user: &str| {
        let (user, host) = (user.to_owned(), "test-node".to_owned());
        Participant { id: Uuid(id), leg, user, host, joined: WallMs(FROM.0 - 9_000), left: None }
    };
    let told = Call {
        session: Uuid(77),
        streams: [Uuid(1), Uuid(2)],
        id: call.to_string(),
        call_ids: [Some("a@x".into()), Some("b@y".into())],
        codecs: [Some("PCMA".into()), None],
        started: WallMs(FROM.0 - 9_000),
        participants: vec![
            seat(3, tonewall::base::ids::Leg::Customer, "+14155550100"),
            seat(4, tonewall::base::ids::Leg::Agent, "1001"),
        ],
        held: [false; 2],
        caller: tonewall::base::ids::Leg::Customer,
        extensions: vec![("ref".into(), "7".into())],
        namespace: "urn:example:calls".into(),
        user_to_user: None,
        part: None,
    };
    let spill = Spill::new("quality", &told, &[("X-Ref".into(), "b-7".into())]);
    let start = Start {
        recording,
        call,
        node: "test-node".into(),
        from_trunk: "carrier".into(),
        to_trunk: "pbx".into(),
        started_at_ms: FROM,
        rate: 8_000,
        channels: 2,
        caller: "+14155550100".into(),
        called: "1001".into(),
        agent: "1001".into(),
        sip_call_ids: vec!["a@x".into(), "b@y".into()],
        labels: [("spill".to_owned(), "quality".to_owned())].into(),
        spill: sealed.then(|| Box::new(spill)),
    };
    let (ended, call_ended) = (WallMs(FROM.0 + 30_000), Some(WallMs(FROM.0 + 29_000)));
    SpillReport::Opened(recording, Box::new(OpenedSpill { start, ended, call_ended }))
}

fn report(w: &mut World, report: SpillReport) {
    w.engine.handle_spill(w.now, report);
    w.drain();
}

/// The orders since the last time.
fn orders(w: &mut World) -> Vec<RecordOrder> {
    std::mem::take(&mut w.ledger.spills)
}

fn states(w: &World) -> Vec<(SpillState, Option<String>)> {
    let of = |event: &EventKind| match event {
        EventKind::Spill { state, reason, .. } => Some((*state, reason.clone())),
        _ => None,
    };
    w.events.iter().filter_map(of).collect()
}

/// How long the last that failed rests.
fn rest(w: &World) -> Duration {
    let of = |event: &EventKind| if let EventKind::Spill { again_ms, .. } = event { *again_ms } else { None };
    Duration::from_millis(w.events.iter().rev().find_map(of).expect("a rest"))
}

/// One waits, is opened, and the first target takes it.
fn playing(w: &mut World, recording: RecordingId) -> (Told, ForkId) {
    report(w, SpillReport::All(vec![waiting(recording, 0)]));
    begins(w, recording)
}

fn begins(w: &mut World, recording: RecordingId) -> (Told, ForkId) {
    assert_eq!(orders(w), [RecordOrder::OpenSpill { recording }]);
    report(w, opened(recording, true));
    let told = takes(w, Who::Recorder, &theirs(Who::Recorder, "recvonly", PLAIN));
    let fork = *w.ledger.forks.keys().next_back().expect("a way");
    assert_eq!(orders(w), [RecordOrder::PlaySpill { recording, fork }]);
    (told, fork)
}

fn played(w: &mut World, fork: ForkId, sent: u64, back: u64) {
    w.engine.handle_fork(w.now, fork, ForkReport::Played { sent, back });
    w.drain();
}

#[test]
fn a_spill_goes_to_the_next_target_and_is_marked_when_its_end_is_answered() {
    let mut w = forwarding();
    let ids = ids(2);
    report(&mut w, SpillReport::All(vec![waiting(ids[1], 5), waiting(ids[0], 0)]));
    assert_eq!(orders(&mut w), [RecordOrder::OpenSpill { recording: ids[0] }], "the oldest, and one at a time");
    report(&mut w, opened(ids[0], true));
    let refused = w.expect(Who::Recorder, "INVITE");
    w.send(Who::Recorder, &reply(Who::Recorder, &refused, 480, "srs"));
    w.expect(Who::Recorder, "ACK");
    let told = takes(&mut w, Who::Second, &theirs(Who::Second, "recvonly", PLAIN));
    let part = format!("{};from=2026-11-22T00:00:00.000Z;to=2026-11-22T00:00:30.000Z", ids[0]);
    assert_eq!(told.message.get("x-tonewall-spill"), Some(part.as_str()));
    assert_eq!(told.message.get("x-ref"), Some("b-7"));
    assert_eq!(told.texts("spill"), [ids[0].to_string()]);
    assert_eq!(
        (told.texts("start-time"), told.texts("stop-time")),
        (vec!["2026-11-21T23:59:51.000Z".to_owned()], vec!["2026-11-22T00:00:29.000Z".to_owned()],)
    );
    assert_eq!((told.texts("customer-call-id"), told.texts("ref")), (vec!["a@x".to_owned()], vec!["7".to_owned()]));
    let fork = *w.ledger.forks.keys().next_back().expect("a way");
    assert_eq!(orders(&mut w), [RecordOrder::PlaySpill { recording: ids[0], fork }]);
    w.advance(30 * SEC);
    played(&mut w, fork, 3_000, 3);
    let bye = w.expect(Who::Second, "BYE");
    assert!(orders(&mut w).is_empty(), "not before it is answered");
    w.send(Who::Second, &reply(Who::Second, &bye, 200, ""));
    assert_eq!(orders(&mut w), [RecordOrder::MarkSpill { recording: ids[0] }]);
    assert_eq!(states(&w), [(SpillState::Forwarding, None)], "nor told before it is marked");
    report(&mut w, SpillReport::Marked(ids[0]));
    assert_eq!(states(&w)[1..], [(SpillState::Forwarded, None)]);
    assert_eq!(orders(&mut w), [RecordOrder::OpenSpill { recording: ids[1] }], "the next");
    report(&mut w, SpillReport::Unfit(ids[1], "it was destroyed".into(), true));
    assert_eq!(states(&w)[2..], [(SpillState::Dropped, Some("it was destroyed".to_owned()))]);
    w.expect_clean();
}

#[test]
fn what_fails_is_sent_anew_from_its_beginning_and_never_taken_for_sent() {
    for way in ["no answer to BYE", "BYE 481", "they end it", "no sound wanted", "ports closed", "nobody takes it"] {
        let mut w = forwarding();
        let id = ids(1)[0];
        if way == "no sound wanted" {
            report(&mut w, SpillReport::All(vec![waiting(id, 0)]));
            report(&mut w, opened(id, true));
            takes(&mut w, Who::Recorder, &theirs(Who::Recorder, "inactive", PLAIN));
            orders(&mut w);
            w.advance(61 * SEC);
            let bye = w.expect(Who::Recorder, "BYE");
            w.send(Who::Recorder, &reply(Who::Recorder, &bye, 200, ""));
        } else if way == "nobody takes it" {
            report(&mut w, SpillReport::All(vec![waiting(id, 0)]));
            orders(&mut w);
            report(&mut w, opened(id, true));
            for who in [Who::Recorder, Who::Second] {
                let invite = w.expect(who, "INVITE");
                w.send(who, &reply(who, &invite, 503, "srs"));
                w.expect(who, "ACK");
            }
        } else {
            let (told, fork) = playing(&mut w, id);
            match way {
                "no answer to BYE" | "BYE 481" => {
                    played(&mut w, fork, 100, 0);
                    let bye = w.expect(Who::Recorder, "BYE");
                    if way == "BYE 481" {
                        w.send(Who::Recorder, &reply(Who::Recorder, &bye, 481, ""));
                    } else {
                        w.advance(6 * SEC);
                        w.inbox.clear();
                    }
                }
                "they end it" => {
                    let mut recorder = Line::called(Who::Recorder, &told.message, "srs");
                    let bye = recorder.request(&mut w, "BYE");
                    w.send(Who::Recorder, &bye);
                    w.expect(Who::Recorder, "200");
                }
                _ => {
                    played(&mut w, fork, 100, 90);
                    let bye = w.expect(Who::Recorder, "BYE");
                    w.send(Who::Recorder, &reply(Who::Recorder, &bye, 200, ""));
                }
            }
        }
        assert_eq!(orders(&mut w), [RecordOrder::LeaveSpill { recording: id }], "{way}");
        assert!(w.ledger.forks.is_empty(), "{way}: nothing flows any more");
        let (state, why) = states(&w).pop().expect("told");
        assert!(state == SpillState::Failed && why.is_some(), "{way}: {state:?} {why:?}");
        // Later it is sent anew, and gets through.
        let rest = rest(&w);
        assert!(rest >= 4 * SEC && rest <= 6 * SEC, "{way}: {rest:?}");
        w.advance(rest + 40 * SEC);
        w.inbox.clear();
        let (_, fork) = begins(&mut w, id);
        played(&mut w, fork, 100, 0);
        let bye = w.expect(Who::Recorder, "BYE");
        w.send(Who::Recorder, &reply(Who::Recorder, &bye, 200, ""));
        assert_eq!(orders(&mut w), [RecordOrder::MarkSpill { recording: id }], "{way}");
        report(&mut w, SpillReport::Marked(id));
        w.expect_clean();
    }
}

#[test]
fn one_that_cannot_be_read_on_ends_its_session_and_the_next_begins() {
    let mut w = forwarding();
    let ids = ids(2);
    let (_, fork) = playing(&mut w, ids[0]);
    report(&mut w, SpillReport::One(waiting(ids[1], 9)));
    assert!(orders(&mut w).is_empty());
    report(&mut w, SpillReport::Unfit(ids[0], "the disk fails".into(), false));
    let bye = w.expect(Who::Recorder, "BYE");
    w.send(Who::Recorder, &reply(Who::Recorder, &bye, 200, ""));
    assert_eq!(states(&w).pop(), Some((SpillState::Failed, Some("the disk fails".to_owned()))));
    // Its way is closed: what is reported of it late is nobody's.
    played(&mut w, fork, 1, 0);
    assert_eq!(orders(&mut w), [RecordOrder::OpenSpill { recording: ids[1] }]);
    // What earlier versions sealed says less of itself.
    report(&mut w, opened(ids[1], false));
    let told = takes(&mut w, Who::Recorder, &theirs(Who::Recorder, "recvonly", PLAIN));
    assert_eq!(
        (told.texts("name"), told.texts("agent-call-id")),
        (vec!["+14155550100".to_owned(), "1001".to_owned()], vec!["b@y".to_owned()],)
    );
    w.engine.drain(w.now);
    w.drain();
    let bye = w.expect(Who::Recorder, "BYE");
    w.send(Who::Recorder, &reply(Who::Recorder, &bye, 200, ""));
    w.expect_clean();
    assert_eq!(states(&w).len(), 3, "a node that ends tells no fault: {:?}", states(&w));
}

#[test]
fn nothing_is_forwarded_while_a_call_goes_without_the_recorder() {
    let mut w = forwarding();
    let id = ids(1)[0];
    let mut up = w.call();
    for who in [Who::Recorder, Who::Second] {
        let invite = w.expect(who, "INVITE");
        w.send(who, &reply(who, &invite, 480, "srs"));
        w.expect(who, "ACK");
    }
    assert_eq!(w.ledger.recordings_open, 1, "it is spilled");
    report(&mut w, SpillReport::All(vec![waiting(id, 0)]));
    assert!(orders(&mut w).is_empty());
    w.advance(3 * SEC);
    takes(&mut w, Who::Recorder, &theirs(Who::Recorder, "recvonly", PLAIN));
    w.advance(SEC);
    assert_eq!(orders(&mut w), [RecordOrder::OpenSpill { recording: id }], "the call has it again");
    report(&mut w, SpillReport::All(Vec::new()));
    assert!(states(&w).is_empty(), "one that is being opened is left to its end");
    report(&mut w, SpillReport::Unfit(id, "no key".into(), false));
    report(&mut w, SpillReport::All(Vec::new()));
    assert_eq!(states(&w).last().map(|(state, _)| *state), Some(SpillState::Dropped), "it does not wait any more");
    w.hang_up(&mut up.callee, Who::Carrier);
    w.advance(2 * SEC);
    let bye = w.expect(Who::Recorder, "BYE");
    w.send(Who::Recorder, &reply(Who::Recorder, &bye, 200, ""));
    w.expect_clean();
}
