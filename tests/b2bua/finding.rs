//! Finding a call: by each key, alone and together, as the keys come and change, and nothing left of a call that is over.

use tonewall::base::ids::CallId;
use tonewall::call::{Find, Reply, Signal};
use tonewall::config::{Config, Refer};

use crate::harness::*;

/// A universal call id as Avaya writes it, and its other forms.
const UCID: &str = "00FA080001028B4F88FB51;encoding=hex";
const UCID_HEX: &str = "0001028b4f88fb51";
const UCID_DIGITS: &str = "00001006511334377297";

fn found(w: &mut World, key: &str, value: &str) -> Vec<CallId> {
    let find = Find::by(key, value).expect("a key");
    all(w, find)
}

fn all(w: &mut World, find: Find) -> Vec<CallId> {
    match w.signal(Signal::Find { find, limit: 100 }) {
        Ok(Reply::Calls(calls)) => calls.iter().map(|call| call.id).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_call_is_found_by_the_user_to_user_of_its_invite_in_every_form() {
    let mut w = World::new();
    let dialling = w.dial_with(|invite| {
        invite
            .with("User-to-User", UCID)
            .with("User-to-User", "\"ticket 7;x\";encoding=ascii")
            .with_body("application/sdp", sdp(Who::Carrier, 1, BOTH, "sendrecv"))
    });
    let call = w.view().id;
    for form in [UCID, "00fa080001028b4f88fb51", UCID_HEX, &UCID_HEX.to_uppercase(), UCID_DIGITS, "ticket 7;x"] {
        let form = if form.contains(' ') { "\"ticket 7;x\"" } else { form };
        assert_eq!(found(&mut w, "user_to_user", form), [call], "{form}");
    }
    for other in ["0001028b4f88fb5", "00001006511334377298", "", "ticket 7"] {
        assert_eq!(found(&mut w, "user_to_user", other), [], "{other}");
    }
    drop(dialling);
}

#[test]
fn the_pbx_names_a_call_in_its_answers_too() {
    let mut w = World::with(|config| config.trunks[1].call_header = Some("X-Ticket".into()));
    let dialling = w.dial();
    let ringing = dialling.reply(180, "a").with("User-to-User", UCID);
    w.send(Who::Pbx, &ringing);
    w.expect(Who::Carrier, "180");
    let call = w.view().id;
    assert_eq!(found(&mut w, "user_to_user", UCID_DIGITS), [call]);
    assert_eq!(found(&mut w, "reference", "T-17"), []);
    let ok = dialling.described(200, "a", BOTH).with("X-Ticket", "T-17").with("User-to-User", "abcdef01");
    w.send(Who::Pbx, &ok);
    assert_eq!(found(&mut w, "reference", "T-17"), [call]);
    assert_eq!(found(&mut w, "user_to_user", UCID_HEX), [call], "what was told before still names it");
    assert_eq!(found(&mut w, "user_to_user", "ABCDEF01"), [call]);
}

#[test]
fn keys_together_name_who_has_them_all_oldest_first() {
    let mut w = World::new();
    let ups: Vec<_> = (0..3).map(|_| w.call()).collect();
    let ids: Vec<CallId> = w.views().iter().map(|view| view.id).collect();
    assert_eq!(found(&mut w, "agent", "1001"), ids, "a queue's number names them all");
    for (up, id) in ups.iter().zip(&ids) {
        for call_id in [&up.caller.call_id, &up.callee.call_id] {
            assert_eq!(found(&mut w, "sip_call_id", call_id), [*id]);
        }
        let number = up.caller.local.split(['+', '@']).nth(1).expect("a number");
        // As a query decodes a plus, as people write it, and as it is.
        for written in [format!("+{number}"), format!(" {number}"), number.to_owned(), format!("(+{number})")] {
            assert_eq!(found(&mut w, "caller", &written), [*id], "{written}");
        }
        let both = Find { agent: Some("1001".into()), caller: Some(number.into()), ..Find::default() };
        assert_eq!(all(&mut w, both.clone()), [*id]);
        assert_eq!(all(&mut w, Find { id: Some(*id), ..both.clone() }), [*id]);
        assert_eq!(all(&mut w, Find { id: Some(*id), agent: Some("1002".into()), ..both }), []);
    }
    assert_eq!(all(&mut w, Find { id: Some(ids[1]), ..Find::default() }), [ids[1]]);
    assert_eq!(Find::by("colour", "red"), None);
}

#[test]
fn after_a_transfer_the_new_agent_has_the_call_and_after_its_end_nobody() {
    let mut w = World::with(|config: &mut Config| {
        for trunk in &mut config.trunks {
            trunk.methods.refer = Refer::Terminate;
        }
    });
    let mut up = w.call();
    let call = w.view().id;
    let refer = up.callee.request(&mut w, "REFER").with("Refer-To", "<sip:1002@10.1.0.20>");
    w.send(Who::Pbx, &refer);
    w.expect(Who::Pbx, "202");
    w.expect(Who::Pbx, "NOTIFY");
    let theirs = w.expect(Who::Pbx, "INVITE");
    let ok = reply(Who::Pbx, &theirs, 200, "second").with_body("application/sdp", sdp(Who::Pbx, 1, BOTH, "sendrecv"));
    w.send(Who::Pbx, &ok);
    assert_eq!(found(&mut w, "agent", "1002"), [call]);
    assert_eq!(found(&mut w, "agent", "1001"), []);
    let (old, new) = (up.callee.call_id.clone(), theirs.get("call-id").expect("Call-ID").to_owned());
    assert_eq!(found(&mut w, "sip_call_id", &new), [call]);
    assert_eq!(found(&mut w, "sip_call_id", &old), []);
    let bye = up.caller.request(&mut w, "BYE");
    w.send(Who::Carrier, &bye);
    for (key, value) in [("agent", "1002"), ("sip_call_id", &new), ("sip_call_id", &up.caller.call_id)] {
        assert_eq!(found(&mut w, key, value), []);
    }
}
