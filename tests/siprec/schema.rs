//! What recorders are told, held against RFC 7865's schema by xmllint, and read by a parser that nobody here wrote.

use tonewall::base::ids::Leg;
use tonewall::base::time::WallMs;
use tonewall::config::Dialect;
use tonewall::record::siprec::metadata::{Call, Part, Participant, Uuid, write};

use crate::check::check;
use crate::common::{installed, skip};

fn participant(id: u128, leg: Leg, user: &str) -> Participant {
    let (user, host) = (user.to_owned(), "node-1".to_owned());
    Participant { id: Uuid(id), leg, user, host, joined: WallMs(1_795_305_600_000), left: None }
}

fn call() -> Call {
    Call {
        session: Uuid(1),
        streams: [Uuid(2), Uuid(3)],
        id: "call_1".to_owned(),
        call_ids: [Some("a<b>&\"'@x".to_owned()), None],
        codecs: [Some("PCMU".to_owned()), None],
        started: WallMs(1_795_305_600_000),
        participants: vec![participant(4, Leg::Customer, "+14155550100"), participant(5, Leg::Agent, "5551000")],
        held: [false; 2],
        caller: Leg::Customer,
        extensions: vec![("ref".to_owned(), "<ticket & \u{1}\u{feff}more>".to_owned())],
        namespace: "urn:example:calls".to_owned(),
        user_to_user: Some("00FA;encoding=hex".to_owned()),
        part: None,
    }
}

#[test]
fn metadata_is_valid_whatever_peers_call_themselves() {
    let mut call = call();
    check("usual", &write(Dialect::Standard, &call));
    for user in ["", "<&>", "\"x\" 'y'", "a\tb\nc", "\u{0}\u{7}x", "]]>", "ünï ☎", "%41", "a@b:c"] {
        call.participants[0].user = user.to_owned();
        call.held = [true, false];
        call.participants[1].left = Some(WallMs(1_795_305_601_000));
        check(user, &write(Dialect::Standard, &call));
    }
    let recording = "rec_5b43ab733cb8a27e81c498f53f44eafd".parse().expect("an id");
    let (from, to) = (WallMs(1_795_305_610_000), WallMs(1_795_305_620_000));
    for ended in [None, Some(WallMs(1_795_305_630_000))] {
        call.part = Some(Part { recording, from, to, ended });
        let text = write(Dialect::Standard, &call);
        check("a part", &text);
        assert_eq!(text.contains("<stop-time>2026-11-22T00:00:30"), ended.is_some(), "{text}");
        assert!(text.contains(">rec_5b43ab733cb8a27e81c498f53f44eafd</spill>"), "{text}");
    }
}

#[test]
fn the_schema_refuses_what_is_not_metadata() {
    if !installed("xmllint") {
        return skip("the schema", "xmllint is not installed (Debian: apt-get install libxml2-utils)");
    }
    let good = write(Dialect::Standard, &call());
    for (from, to) in [("label>", "lable>"), ("session_id=\"", "session=\""), ("complete", "whole"), ("send>", "sent>")]
    {
        let wrong = good.replace(from, to);
        assert!(roxmltree::Document::parse(&wrong).is_ok(), "well-formed all the same");
        let refused = std::panic::catch_unwind(|| check("wrong", &wrong));
        assert!(refused.is_err(), "{from} as {to} passes");
    }
}

#[test]
fn dialects_say_the_same_in_their_own_words() {
    let audiocodes = write(Dialect::AudioCodes, &call());
    assert!(audiocodes.contains("xmlns=\"urn:ietf:params:xml:ns:recording\""));
    let oracle = write(Dialect::Oracle, &call());
    for part in [
        "acmepacket.com/siprec/extensiondata",
        "<apkt:ucid>00FA;encoding=hex</apkt:ucid>",
        "callerOrig>true",
        "callingParty>false",
    ] {
        assert!(oracle.contains(part), "{part} in {oracle}");
    }
    for text in [audiocodes, oracle] {
        let read = roxmltree::Document::parse(&text).expect("well-formed");
        let labels: Vec<_> =
            read.descendants().filter(|node| node.has_tag_name_any("label")).filter_map(|n| n.text()).collect();
        assert_eq!(labels, ["1", "2"]);
    }
}

trait Named {
    fn has_tag_name_any(&self, name: &str) -> bool;
}

impl Named for roxmltree::Node<'_, '_> {
    fn has_tag_name_any(&self, name: &str) -> bool {
        self.is_element() && self.tag_name().name() == name
    }
}
