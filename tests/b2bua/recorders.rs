//! SIPREC recorders of calls that change: what a recorder is told of transfers, codecs and holds, in each dialect; who is asked
//! when one refuses encryption; changes from both ends at once. Every piece of metadata is held against the schema.

use tonewall::call::Signal;
use tonewall::config::{Told as Written, *};
use tonewall::obs::event::{EndCause, HoldKind};
use tonewall::testkit::simple_sip::{Message, param};

use crate::harness::*;
use crate::{check, join, transfer};

/// A world with a recorder of two targets that the carrier's trunk names.
pub fn world(change: impl FnOnce(&mut Config)) -> World {
    World::with(|config| {
        config.listeners.push(listener(2));
        let peer = trunk("quality", Side::Recorder, 2, &[Who::Recorder, Who::Second], ("198.51.100.0", 24));
        config.trunks.push(Trunk { guard: GuardMode::Off, signal_header: None, max_calls: u32::MAX, ..peer });
        config.recorders.push(Recorder {
            name: "quality".into(),
            trunk: TrunkId(2),
            required: false,
            user: "recorder".into(),
            dialect: Dialect::Standard,
            codec: Codec::Pcmu,
            srtp: Srtp::Off,
            alive: std::time::Duration::ZERO,
            spill: false,
            forward_sessions: 0,
            headers: vec![],
            namespace: "urn:example:calls".into(),
            extensions: vec![],
        });
        config.trunks[0].recorders = vec![RecorderId(0)];
        change(config);
    })
}

/// The sound is encrypted, or may be.
fn with_srtp(srtp: Srtp) -> World {
    world(|config| {
        config.recorders[0].srtp = srtp;
        config.trunks[2].srtp = srtp;
        config.recorders[0].required = true;
    })
}

/// A recorder's description.
pub fn theirs(who: Who, direction: &str, (profile, more): (&str, &str)) -> String {
    let section = |port, label| {
        format!("m=audio {port} {profile} 0\r\na=rtpmap:0 PCMU/8000\r\na={direction}\r\na=label:{label}\r\n{more}")
    };
    let ip = who.media();
    let (one, two) = (section(4_000, 1), section(4_002, 2));
    format!("v=0\r\no=srs 1 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\n{one}{two}")
}

pub const PLAIN: (&str, &str) = ("RTP/AVP", "");

/// What a recorder is told in one message.
pub struct Told {
    pub message: Message,
    pub sdp: String,
    pub xml: String,
}

/// A participant: side, user, whether it has left, its id.
type Seat = (String, String, bool, String);

impl Told {
    fn of(message: Message) -> Told {
        let kind = message.get("content-type").expect("a type").to_owned();
        let boundary = param(&kind, "boundary").expect("a boundary");
        let body = text(&message);
        let parts: Vec<&str> = body.split(&format!("--{boundary}")).collect();
        let part = |at: usize| parts[at].split_once("\r\n\r\n").expect("a head").1.trim_end().to_owned() + "\r\n";
        let told = Told { sdp: part(1), xml: part(2), message };
        if told.xml.contains("urn:ietf:params:xml:ns:recording:1\"") && !told.xml.contains("extensiondata") {
            check::check("what a recorder is told", &told.xml);
        }
        told
    }

    fn all<T>(&self, read: impl FnMut(roxmltree::Node<'_, '_>) -> Option<T>) -> Vec<T> {
        let document = roxmltree::Document::parse(&self.xml).expect("XML");
        document.descendants().filter(roxmltree::Node::is_element).filter_map(read).collect()
    }

    /// Texts of the elements of this name.
    pub fn texts(&self, name: &str) -> Vec<String> {
        self.all(|node| (node.tag_name().name() == name).then(|| node.text().unwrap_or_default().to_owned()))
    }

    fn attribute(&self, element: &str, name: &str) -> Vec<String> {
        self.all(|node| (node.tag_name().name() == element).then(|| node.attribute(name).expect(name).to_owned()))
    }

    fn seats(&self) -> Vec<Seat> {
        let text_in = |node: roxmltree::Node<'_, '_>, name: &str| {
            let found = node.descendants().find(|inner| inner.tag_name().name() == name);
            found.and_then(|inner| inner.text()).unwrap_or_default().to_owned()
        };
        let left = self.all(|node| {
            let is = node.tag_name().name() == "participantsessionassoc"
                && node.children().any(|inner| inner.tag_name().name() == "disassociate-time");
            is.then(|| node.attribute("participant_id").expect("an id").to_owned())
        });
        self.all(|node| {
            let id = (node.tag_name().name() == "participant").then(|| node.attribute("participant_id"))??.to_owned();
            Some((text_in(node, "role"), text_in(node, "name"), left.contains(&id), id))
        })
    }

    /// Side and user of everybody, and whether they have left.
    fn who(&self) -> Vec<(String, String, bool)> {
        self.seats().into_iter().map(|(role, user, left, _)| (role, user, left)).collect()
    }

    /// By label: the user who speaks in that stream.
    fn speakers(&self) -> [String; 2] {
        let (streams, seats) = (self.attribute("stream", "stream_id"), self.seats());
        assert_eq!(self.texts("label"), ["1", "2"]);
        let sends = self.all(|node| {
            let who =
                (node.tag_name().name() == "participantstreamassoc").then(|| node.attribute("participant_id"))??;
            let send = node.children().find(|inner| inner.tag_name().name() == "send")?.text()?;
            Some((send.to_owned(), who.to_owned()))
        });
        assert_eq!(sends.len(), 2, "nobody who has left speaks: {}", self.xml);
        [0, 1].map(|at| {
            let (_, who) = sends.iter().find(|(stream, _)| *stream == streams[at]).expect("a speaker");
            seats.iter().find(|(_, _, left, id)| id == who && !left).expect("somebody who is there").1.clone()
        })
    }
}

/// The recorder takes the session, or a change of it, that it is asked for.
pub fn takes(w: &mut World, who: Who, description: &str) -> Told {
    let invite = w.expect(who, "INVITE");
    w.send(who, &reply(who, &invite, 200, "srs").with_body("application/sdp", description));
    w.expect(who, "ACK");
    Told::of(invite)
}

/// Everything it is told now, the last of it; it agrees to all.
fn hears(w: &mut World) -> Told {
    let mut last = None;
    while w.inbox.get(&Who::Recorder).is_some_and(|waiting| !waiting.is_empty()) {
        last = Some(takes(w, Who::Recorder, &theirs(Who::Recorder, "recvonly", PLAIN)));
    }
    last.expect("the recorder is told")
}

/// Whether sound flows to whom.
pub fn flows(w: &World) -> Vec<Option<String>> {
    w.ledger.forks.values().map(|streams| streams.as_ref().map(|s| s[0].rtp.ip().to_string())).collect()
}

/// A change by the agent that the customer agrees to.
fn changes(w: &mut World, up: &mut Up, formats: &str, [from, back]: [&str; 2]) {
    let version = w.next();
    let offer = up.callee.offer(w, "INVITE", &sdp(Who::Pbx, version, formats, from));
    w.send(Who::Pbx, &offer);
    let asked = w.expect(Who::Carrier, "INVITE");
    let body = sdp(Who::Carrier, version, formats, back);
    w.send(Who::Carrier, &reply(Who::Carrier, &asked, 200, "").with_body("application/sdp", body));
    w.expect(Who::Carrier, "ACK");
    w.expect(Who::Pbx, "200");
    let ack = up.callee.ack(w);
    w.send(Who::Pbx, &ack);
}

/// `from` calls a number and is answered: our INVITE to the other side, and the caller's line.
fn dials(w: &mut World, from: Who, number: &str, change: impl FnOnce(Message) -> Message) -> (Message, Line) {
    let to = if from == Who::Carrier { Who::Pbx } else { Who::Carrier };
    let mut caller = Line::new(w, from, number);
    let invite = change(caller.offer(w, "INVITE", &sdp(from, 1, BOTH, "sendrecv")));
    w.send(from, &invite);
    let asked = w.expect(to, "INVITE");
    w.send(to, &reply(to, &asked, 200, "callee").with_body("application/sdp", sdp(to, 1, BOTH, "sendrecv")));
    w.expect(to, "ACK");
    let ok = w.expect(from, "200");
    caller.follow(&ok);
    let ack = caller.ack(w);
    w.send(from, &ack);
    (asked, caller)
}

/// The call ends, and the session with it.
fn ends(w: &mut World, line: &mut Line, other: Who) {
    w.hang_up(line, other);
    w.advance(2 * SEC);
    let bye = w.expect(Who::Recorder, "BYE");
    w.send(Who::Recorder, &reply(Who::Recorder, &bye, 200, ""));
    w.expect_clean();
}

fn seat(role: &str, user: &str, left: bool) -> (String, String, bool) {
    (role.to_owned(), user.to_owned(), left)
}

#[test]
fn a_transfer_by_refer_is_told_with_who_left_and_who_came() {
    let mut w = world(transfer::terminates);
    let mut up = w.call();
    let first = hears(&mut w);
    let caller = first.seats()[0].1.clone();
    assert_eq!(first.who(), [seat("customer", &caller, false), seat("agent", "1001", false)]);
    let asked = transfer::begins(&mut w, &mut up.callee, "<sip:1002@elsewhere.example>");
    w.send(Who::Pbx, &transfer::answer(Who::Pbx, &asked));
    w.expect(Who::Pbx, "ACK");
    transfer::told(&mut w, Who::Pbx, 200, true);
    let bye = w.expect(Who::Pbx, "BYE");
    w.send(Who::Pbx, &reply(Who::Pbx, &bye, 200, ""));
    transfer::agree(&mut w, Who::Carrier);
    w.advance(SEC / 10);
    let told = hears(&mut w);
    assert_eq!(
        told.who(),
        [seat("customer", &caller, false), seat("agent", "1001", true), seat("agent", "1002", false)]
    );
    assert_eq!(told.speakers(), [caller, "1002".to_owned()]);
    // What is the same keeps its ids; the new dialog is named.
    for (element, name) in [("session", "session_id"), ("stream", "stream_id")] {
        assert_eq!(told.attribute(element, name), first.attribute(element, name));
    }
    assert_eq!(
        told.seats()[..2].iter().map(|s| &s.3).collect::<Vec<_>>(),
        first.seats().iter().map(|s| &s.3).collect::<Vec<_>>()
    );
    assert_eq!(told.texts("agent-call-id"), [asked.get("call-id").expect("Call-ID")]);
    assert_eq!(told.texts("codec"), ["PCMA", "PCMA"], "the new agent has no other");
    assert_eq!(flows(&w), [Some("198.51.100.40".to_owned())], "and the sound went on");
    let mut second = Line::called(Who::Pbx, &asked, "second");
    ends(&mut w, &mut second, Who::Carrier);
}

#[test]
fn an_agent_who_takes_over_by_replaces_is_told() {
    let mut w = world(transfer::allows_replaces);
    let up = w.call();
    let first = hears(&mut w);
    let mut second = Line::new(&mut w, Who::Pbx, "1001");
    let body = sdp(Who::Standby, 1, "8 101", "sendrecv");
    let invite = second.offer(&mut w, "INVITE", &body).with("Replaces", transfer::replaces(&up.callee));
    w.send(Who::Pbx, &invite);
    let ok = w.expect(Who::Pbx, "200");
    let bye = w.expect(Who::Pbx, "BYE");
    w.send(Who::Pbx, &reply(Who::Pbx, &bye, 200, ""));
    second.follow(&ok);
    let ack = second.ack(&mut w);
    w.send(Who::Pbx, &ack);
    w.advance(SEC / 100);
    transfer::agree(&mut w, Who::Carrier);
    let told = hears(&mut w);
    let caller = first.seats()[0].1.clone();
    let [stays, left, came] = &told.who()[..] else { panic!("{:?}", told.who()) };
    assert_eq!((stays, left), (&seat("customer", &caller, false), &seat("agent", "1001", true)));
    assert!(came.0 == "agent" && came.1.starts_with("+4930") && !came.2, "{came:?}");
    assert_eq!(told.speakers(), [caller, came.1.clone()]);
    assert_eq!(told.texts("agent-call-id"), [second.call_id.as_str()]);
    ends(&mut w, &mut second, Who::Carrier);
}

#[test]
fn of_two_calls_that_become_one_the_recorder_keeps_one_and_is_told_who_is_in_it() {
    let mut w = world(join::allows);
    let mut asked = w.call();
    assert_eq!(hears(&mut w).seats()[1].1, "1001");
    let (invite, caller) = dials(&mut w, Who::Pbx, "493077", |invite| invite);
    let mut consulted = Up { caller, callee: Line::called(Who::Carrier, &invite, "callee") };
    hears(&mut w);
    assert_eq!(w.ledger.forks.len(), 2);
    join::joined(&mut w, &mut asked, &consulted);
    let (mut told, mut byes) = (Vec::new(), 0);
    for _ in 0..20 {
        w.advance(SEC / 10);
        while let Some(message) = w.next_for(Who::Recorder) {
            let ok = reply(Who::Recorder, &message, 200, "");
            match message.method() {
                Some("INVITE") => {
                    let body = theirs(Who::Recorder, "recvonly", PLAIN);
                    w.send(Who::Recorder, &ok.with_body("application/sdp", body));
                    told.push(Told::of(message));
                }
                Some("BYE") => {
                    byes += 1;
                    w.send(Who::Recorder, &ok);
                }
                other => assert_eq!(other, Some("ACK")),
            }
        }
    }
    assert_eq!((byes, w.ledger.forks.len()), (1, 1), "the consultation's session has ended");
    let told = told.pop().expect("told");
    let who = told.who();
    assert_eq!((who[1].2, who[2].0.as_str(), who[2].2), (true, "agent", false), "{who:?}");
    assert_eq!(told.speakers(), [who[0].1.clone(), who[2].1.clone()]);
    ends(&mut w, &mut consulted.callee, Who::Carrier);
}

#[test]
fn a_call_that_is_transferred_to_a_trunk_with_a_recorder_is_recorded_from_then_on() {
    for (answers, required) in [(true, false), (true, true), (false, true)] {
        let mut w = world(|config| {
            transfer::terminates(config);
            config.trunks[0].recorders.clear();
            config.recorders[0].required = required;
            let other = trunk("other", Side::Pbx, 1, &[Who::Standby], ("10.1.0.21", 32));
            config.trunks.push(Trunk { recorders: vec![RecorderId(0)], ..other });
            config.trunks[1].sources = vec![Network { address: Who::Pbx.at().ip(), prefix: 32 }];
            let to = vec![TrunkId(3)];
            config.routes.insert(0, Route { prefix: "1002".into(), to, ..config.routes[0].clone() });
        });
        let mut up = w.call();
        w.expect_silence(Who::Recorder);
        transfer::refer(&mut w, &mut up.callee, "<sip:1002@elsewhere.example>");
        w.expect(Who::Pbx, "202");
        transfer::told(&mut w, Who::Pbx, 100, false);
        let asked = w.expect(Who::Standby, "INVITE");
        w.expect_silence(Who::Recorder);
        w.send(Who::Standby, &transfer::answer(Who::Standby, &asked));
        w.expect(Who::Standby, "ACK");
        transfer::told(&mut w, Who::Pbx, 200, true);
        let bye = w.expect(Who::Pbx, "BYE");
        w.send(Who::Pbx, &reply(Who::Pbx, &bye, 200, ""));
        if answers {
            transfer::agree(&mut w, Who::Carrier);
            let told = hears(&mut w);
            assert_eq!((told.who().len(), told.speakers()[1].as_str()), (2, "1002"), "nobody from before it began");
            assert_eq!(w.session().tap, tonewall::media::Tap::On);
            assert_eq!(flows(&w), [Some("198.51.100.40".to_owned())]);
            let mut second = Line::called(Who::Standby, &asked, "second");
            ends(&mut w, &mut second, Who::Carrier);
        } else {
            // Its recorder takes nothing: the call may not go on there.
            for who in [Who::Recorder, Who::Second] {
                let invite = w.expect(who, "INVITE");
                w.send(who, &reply(who, &invite, 480, "srs"));
                w.expect(who, "ACK");
            }
            assert_eq!(w.ended(), [(EndCause::RecorderFailed, None)]);
        }
    }
}

#[test]
fn another_codec_and_each_hold_and_its_end_are_told() {
    let mut w = world(|_| ());
    let mut up = w.call();
    let first = hears(&mut w);
    assert_eq!(first.texts("codec"), ["PCMU", "PCMU"]);
    assert_eq!(first.texts("recv").len(), 2);
    changes(&mut w, &mut up, "8 101", ["sendrecv", "sendrecv"]);
    let told = hears(&mut w);
    assert_eq!((told.texts("codec"), told.who()), (vec!["PCMA".to_owned(), "PCMA".to_owned()], first.who()));
    // Sound goes on as it was asked for: what is sent to the recorder does not change with the call.
    assert!(told.sdp.contains("m=audio") && told.sdp.matches("a=sendonly").count() == 2);
    for way in [["sendonly", "recvonly"], ["inactive", "inactive"]] {
        changes(&mut w, &mut up, "8 101", way);
        let told = hears(&mut w);
        assert!(told.texts("recv").is_empty() && told.texts("send").len() == 2, "{way:?}");
        changes(&mut w, &mut up, "8 101", ["sendrecv", "sendrecv"]);
        let told = hears(&mut w);
        let (streams, hears) = (told.attribute("stream", "stream_id"), told.texts("recv"));
        assert_eq!(hears, [streams[1].clone(), streams[0].clone()], "each hears the other again");
    }
    // Nothing that a recorder is not told of makes a message.
    w.press(tonewall::base::ids::Leg::Customer, "5");
    changes(&mut w, &mut up, "8 101", ["sendrecv", "sendrecv"]);
    w.expect_silence(Who::Recorder);
    ends(&mut w, &mut up.callee, Who::Carrier);
}

#[test]
fn a_pause_and_changes_of_the_call_are_told_together_and_the_sound_stays_cut() {
    let mut w = world(|_| ());
    let mut up = w.call();
    hears(&mut w);
    let call = w.view().id;
    let take =
        Signal::TakeHolds { call, kinds: vec![HoldKind::Pause], reason: "card".into(), ttl: None, actor: actor() };
    w.signal(take).expect("a hold");
    assert_eq!(flows(&w), [None], "before anybody is told");
    // The recorder takes its time; the call changes meanwhile.
    let slow = w.expect(Who::Recorder, "INVITE");
    changes(&mut w, &mut up, "8 101", ["sendonly", "recvonly"]);
    w.expect_silence(Who::Recorder);
    let body = theirs(Who::Recorder, "recvonly", PLAIN);
    w.send(Who::Recorder, &reply(Who::Recorder, &slow, 200, "").with_body("application/sdp", body));
    assert_eq!(flows(&w), [None], "it wants sound, and gets none");
    w.expect(Who::Recorder, "ACK");
    let told = hears(&mut w);
    assert_eq!((told.texts("codec")[0].as_str(), told.texts("recv").len()), ("PCMA", 0));
    assert_eq!(told.sdp.matches("a=inactive").count(), 2);
    assert_eq!(flows(&w), [None]);
    let holds = w.view().holds;
    w.signal(Signal::ReleaseHold { call, hold: holds[0].id, actor: actor() }).expect("released");
    assert_eq!(flows(&w), [Some("198.51.100.40".to_owned())]);
    assert_eq!(hears(&mut w).sdp.matches("a=sendonly").count(), 2);
    ends(&mut w, &mut up.callee, Who::Carrier);
}

#[test]
fn a_recorder_that_refuses_a_change_keeps_its_session_and_a_pause_stays_a_pause() {
    for status in [488, 415, 603] {
        let mut w = world(|_| ());
        let mut up = w.call();
        hears(&mut w);
        let call = w.view().id;
        let take =
            Signal::TakeHolds { call, kinds: vec![HoldKind::Pause], reason: "card".into(), ttl: None, actor: actor() };
        w.signal(take).expect("a hold");
        let asked = w.expect(Who::Recorder, "INVITE");
        w.send(Who::Recorder, &reply(Who::Recorder, &asked, status, ""));
        w.expect(Who::Recorder, "ACK");
        w.advance(10 * SEC);
        w.expect_silence(Who::Recorder);
        assert_eq!(flows(&w), [None], "{status}");
        let hold = w.view().holds[0].id;
        w.signal(Signal::ReleaseHold { call, hold, actor: actor() }).expect("released");
        hears(&mut w);
        assert_eq!(flows(&w).len(), 1);
        assert!(flows(&w)[0].is_some());
        ends(&mut w, &mut up.callee, Who::Carrier);
    }
}

#[test]
fn a_change_from_both_ends_at_once_is_refused_by_both_and_made_later() {
    let mut w = world(|_| ());
    let mut up = w.call();
    let first = hears(&mut w);
    let mut recorder = Line::called(Who::Recorder, &first.message, "srs");
    changes(&mut w, &mut up, "8 101", ["sendrecv", "sendrecv"]);
    let ours = w.expect(Who::Recorder, "INVITE");
    // Theirs crosses ours.
    let offer = theirs(Who::Recorder, "inactive", PLAIN);
    let crossing = recorder.offer(&mut w, "INVITE", &offer);
    w.send(Who::Recorder, &crossing);
    w.expect(Who::Recorder, "491");
    let ack = with_branch(recorder.ack(&mut w), &crossing);
    w.send(Who::Recorder, &ack);
    w.send(Who::Recorder, &reply(Who::Recorder, &ours, 491, ""));
    w.expect(Who::Recorder, "ACK");
    assert_eq!(flows(&w), [Some("198.51.100.40".to_owned())]);
    // They try again sooner than we do (RFC 3261 section 14.1): the dialog is ours.
    w.advance(SEC);
    let again = recorder.offer(&mut w, "INVITE", &offer);
    w.send(Who::Recorder, &again);
    let ok = w.expect(Who::Recorder, "200");
    assert_eq!(text(&ok).matches("a=inactive").count(), 2);
    let ack = recorder.ack(&mut w);
    w.send(Who::Recorder, &ack);
    assert_eq!(flows(&w), [None], "it wants no sound");
    w.expect_silence(Who::Recorder);
    w.advance(SEC);
    w.expect_silence(Who::Recorder);
    w.advance(2 * SEC);
    assert_eq!(takes(&mut w, Who::Recorder, &offer).texts("codec"), ["PCMA", "PCMA"]);
    // And later it does.
    let wants = recorder.offer(&mut w, "INVITE", &theirs(Who::Recorder, "recvonly", PLAIN));
    w.send(Who::Recorder, &wants);
    assert_eq!(text(&w.expect(Who::Recorder, "200")).matches("a=sendonly").count(), 2);
    let ack = recorder.ack(&mut w);
    w.send(Who::Recorder, &ack);
    assert_eq!(flows(&w), [Some("198.51.100.40".to_owned())]);
    ends(&mut w, &mut up.callee, Who::Carrier);
}

const KEY: &str = "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkw\r\n";

/// The tag of our offer for the suite of [`KEY`], and the line with it.
fn key_for(offer: &str) -> String {
    let line = offer.lines().find(|line| line.contains(" AES_CM_128_HMAC_SHA1_80 ")).expect("the suite is offered");
    let tag = line.trim_start_matches("a=crypto:").split(' ').next().expect("a tag");
    KEY.replacen("crypto:1", &format!("crypto:{tag}"), 1)
}

#[test]
fn a_recorder_that_refuses_encryption_is_left_for_the_next_and_nothing_goes_to_it_in_the_clear() {
    // It refuses the offer; it takes it in the clear all the same; it takes it without a key; it refuses one stream.
    for how in ["488", "plain", "no key", "port 0"] {
        let mut w = with_srtp(Srtp::Required);
        let mut up = w.call();
        let invite = w.expect(Who::Recorder, "INVITE");
        let offer = Told::of(invite.clone()).sdp;
        assert_eq!((offer.matches("RTP/SAVP").count(), offer.matches("RTP/AVP").count()), (2, 0));
        let key = key_for(&offer);
        let answer = match how {
            "488" => None,
            "plain" => Some(theirs(Who::Recorder, "recvonly", PLAIN)),
            "no key" => Some(theirs(Who::Recorder, "recvonly", ("RTP/SAVP", ""))),
            _ => Some(theirs(Who::Recorder, "recvonly", ("RTP/SAVP", &key)).replace("audio 4002", "audio 0")),
        };
        let taken = answer.is_some();
        let response = reply(Who::Recorder, &invite, if taken { 200 } else { 488 }, "srs");
        w.send(
            Who::Recorder,
            &match answer {
                Some(body) => response.with_body("application/sdp", body),
                None => response,
            },
        );
        w.expect(Who::Recorder, "ACK");
        if taken {
            let bye = w.expect(Who::Recorder, "BYE");
            w.send(Who::Recorder, &reply(Who::Recorder, &bye, 200, ""));
        }
        assert!(flows(&w).iter().all(Option::is_none), "{how}: nothing went to it");
        let invite = w.expect(Who::Second, "INVITE");
        let key = key_for(&Told::of(invite.clone()).sdp);
        let body = theirs(Who::Second, "recvonly", ("RTP/SAVP", &key));
        w.send(Who::Second, &reply(Who::Second, &invite, 200, "srs").with_body("application/sdp", body));
        w.expect(Who::Second, "ACK");
        let streams = w.ledger.forks.values().next().expect("a way").clone().expect("sound");
        assert!(streams.iter().all(|stream| stream.srtp.is_some()), "{how}");
        w.hang_up(&mut up.callee, Who::Carrier);
        w.advance(2 * SEC);
        let bye = w.expect(Who::Second, "BYE");
        w.send(Who::Second, &reply(Who::Second, &bye, 200, ""));
        w.expect_clean();
    }
}

#[test]
fn a_required_recorder_that_takes_no_encryption_anywhere_ends_the_call() {
    let mut w = with_srtp(Srtp::Required);
    let mut up = w.call();
    for who in [Who::Recorder, Who::Second] {
        let invite = w.expect(who, "INVITE");
        w.send(who, &reply(who, &invite, 488, "srs"));
        w.expect(who, "ACK");
    }
    for who in [Who::Carrier, Who::Pbx] {
        let bye = w.expect(who, "BYE");
        w.send(who, &reply(who, &bye, 200, ""));
    }
    assert_eq!(w.ended(), [(EndCause::RecorderFailed, None)]);
    up.caller = Line::new(&mut w, Who::Carrier, "1001");
    let refused = up.caller.offer(&mut w, "INVITE", &sdp(Who::Carrier, 1, BOTH, "sendrecv"));
    w.send(Who::Carrier, &refused);
    w.expect(Who::Carrier, "503");
    let ack = with_branch(up.caller.ack(&mut w), &refused);
    w.send(Who::Carrier, &ack);
    w.expect_clean();
}

#[test]
fn optional_encryption_is_whatever_the_recorder_answers_and_off_is_off() {
    let keyed = |w: &World| w.ledger.forks.values().next().expect("a way").as_ref().map(|s| s[1].srtp.is_some());
    for (srtp, with_key, encrypted) in
        [(Srtp::Optional, true, Some(true)), (Srtp::Optional, false, Some(false)), (Srtp::Off, false, Some(false))]
    {
        let mut w = with_srtp(srtp);
        let mut up = w.call();
        let invite = w.expect(Who::Recorder, "INVITE");
        let offer = Told::of(invite.clone()).sdp;
        assert_eq!((offer.contains("RTP/SAVP"), offer.contains("a=crypto")), (false, srtp == Srtp::Optional));
        let key = if with_key { key_for(&offer) } else { String::new() };
        let body = theirs(Who::Recorder, "recvonly", ("RTP/AVP", &key));
        w.send(Who::Recorder, &reply(Who::Recorder, &invite, 200, "srs").with_body("application/sdp", body));
        w.expect(Who::Recorder, "ACK");
        assert_eq!(keyed(&w), encrypted, "{srtp:?}");
        // A key that nobody offered is no agreement, whoever sends it later.
        if srtp == Srtp::Off {
            let mut recorder = Line::called(Who::Recorder, &invite, "srs");
            let offer = recorder.offer(&mut w, "INVITE", &theirs(Who::Recorder, "recvonly", ("RTP/SAVP", KEY)));
            w.send(Who::Recorder, &offer);
            w.expect(Who::Recorder, "488");
            let ack = with_branch(recorder.ack(&mut w), &offer);
            w.send(Who::Recorder, &ack);
            assert_eq!(keyed(&w), encrypted);
        }
        ends(&mut w, &mut up.callee, Who::Carrier);
    }
}

#[test]
fn audiocodes_is_spoken_to_in_its_dialect_in_every_message() {
    let mut w = world(|config| config.recorders[0].dialect = Dialect::AudioCodes);
    let mut up = w.call();
    let first = hears(&mut w);
    let invite = &first.message;
    assert_eq!(invite.get("x-audc-call-id"), Some(up.caller.call_id.as_str()));
    assert_eq!(invite.get("ac-session-id"), Some(w.view().id.to_string().as_str()));
    changes(&mut w, &mut up, "8 101", ["sendrecv", "sendrecv"]);
    for told in [first, hears(&mut w)] {
        let body = text(&told.message);
        assert!(body.contains("Content-Type: application/rs-metadata\r\nContent-Disposition: recording-session\r\n"));
        assert!(told.xml.contains("<recording xmlns=\"urn:ietf:params:xml:ns:recording\">"), "{}", told.xml);
        // But for its name, its namespace is the RFC's: what is in it is valid.
        check::check("audiocodes", &told.xml.replacen("ns:recording\"", "ns:recording:1\"", 1));
    }
    ends(&mut w, &mut up.callee, Who::Carrier);
}

#[test]
fn oracle_gets_the_ucid_of_user_to_user_and_who_called() {
    const UUI: &str = "00FA080001028B4F88FB51;encoding=hex;purpose=isdn-uui";
    for from in [Who::Carrier, Who::Pbx] {
        let mut w = world(|config| {
            config.recorders[0].dialect = Dialect::Oracle;
            config.recorders[0].headers =
                vec![Written { name: "X-UUI".into(), value: Piece::read("{header:User-to-User}").expect("a text") }];
        });
        let to = if from == Who::Carrier { Who::Pbx } else { Who::Carrier };
        let (_, mut caller) = dials(&mut w, from, "1001", |invite| invite.with("User-to-User", UUI));
        let told = hears(&mut w);
        assert_eq!(told.message.get("x-uui"), Some(UUI));
        assert!(told.xml.contains("<extensiondata xmlns:apkt=\"http://acmepacket.com/siprec/extensiondata\">"));
        assert_eq!(told.texts("ucid"), ["00FA080001028B4F88FB51;encoding=hex"], "without what is not of it");
        let called = from == Who::Carrier;
        assert_eq!(told.texts("callerOrig"), [called.to_string()]);
        assert_eq!(told.texts("callingParty"), [called.to_string(), (!called).to_string()], "customer, agent");
        let place = |node: roxmltree::Node<'_, '_>| {
            let ucid = node.tag_name().name() == "ucid";
            ucid.then(|| node.ancestors().nth(2)).flatten().map(|outer| outer.tag_name().name().to_owned())
        };
        assert_eq!(told.all(place), ["session"]);
        ends(&mut w, &mut caller, to);
    }
}

#[test]
fn no_key_that_is_pressed_is_in_what_a_recorder_is_told() {
    let mut w = world(|_| ());
    let mut up = w.call();
    hears(&mut w);
    w.press(tonewall::base::ids::Leg::Customer, "4242424242424242");
    changes(&mut w, &mut up, "8 101", ["sendrecv", "sendrecv"]);
    hears(&mut w);
    let wire = String::from_utf8_lossy(&w.wire[&Who::Recorder]).into_owned();
    assert!(!wire.contains("4242"));
    ends(&mut w, &mut up.callee, Who::Carrier);
}
