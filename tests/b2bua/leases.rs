//! A pause of one recorder is its taker's: nobody else ends it but who may override.

use tonewall::call::{Actor, Reply, Signal, SignalError, Steer};
use tonewall::config::Role;

use crate::harness::*;
use crate::recorders::{PLAIN, flows, takes, theirs, world};

fn steer(w: &mut World, name: &str, role: Role, wish: Steer) -> Result<Reply, SignalError> {
    let call = w.view().id;
    let actor = Actor::new(name, role);
    w.signal(Signal::SteerRecorder { call, recorder: "quality".into(), wish, ttl: None, actor })
}

/// The PBX steers by its header.
fn header(w: &mut World, up: &mut Up, value: &str) {
    let info = up.callee.request(w, "INFO").with("X-AC-Action", value);
    w.send(Who::Pbx, &info);
    w.expect(Who::Pbx, "200");
}

/// The recorder agrees to whatever it is told.
fn agree(w: &mut World) {
    while w.inbox.get(&Who::Recorder).is_some_and(|waiting| !waiting.is_empty()) {
        takes(w, Who::Recorder, &theirs(Who::Recorder, "recvonly", PLAIN));
    }
}

#[test]
fn a_recorder_is_paused_until_everybody_who_paused_it_has_ended_it() {
    let mut w = world(|_| ());
    let mut up = w.call();
    agree(&mut w);
    assert!(flows(&w)[0].is_some());
    steer(&mut w, "crm", Role::Integration, Steer::Pause).expect("paused");
    assert_eq!(flows(&w), [None]);
    agree(&mut w);
    let other = steer(&mut w, "other", Role::Integration, Steer::Resume);
    assert!(matches!(other, Err(SignalError::Forbidden)), "{other:?}");
    header(&mut w, &mut up, "resume-siprec;recording-ip-group=quality");
    assert_eq!(flows(&w), [None], "it is not the PBX's");
    header(&mut w, &mut up, "pause-siprec;recording-ip-group=quality");
    let Ok(Reply::Lines(lines)) = steer(&mut w, "crm", Role::Integration, Steer::Resume) else { panic!("its own") };
    assert_eq!((lines[0].pause_owners.as_slice(), flows(&w)), (&["pbx".to_owned()][..], vec![None]));
    header(&mut w, &mut up, "resume-siprec;recording-ip-group=quality");
    assert!(flows(&w)[0].is_some(), "the last has ended it");
    agree(&mut w);
    // Whoever may override ends all, and a lease that is not renewed ends by itself.
    steer(&mut w, "crm", Role::Integration, Steer::Pause).expect("paused");
    agree(&mut w);
    steer(&mut w, "boss", Role::Supervisor, Steer::Resume).expect("resumed");
    assert!(flows(&w)[0].is_some());
    agree(&mut w);
    steer(&mut w, "crm", Role::Integration, Steer::Pause).expect("paused");
    agree(&mut w);
    w.advance(61 * SEC);
    assert!(flows(&w)[0].is_some());
    w.inbox.clear();
    w.hang_up(&mut up.callee, Who::Carrier);
    w.advance(40 * SEC);
    w.inbox.clear();
    w.expect_clean();
}
