#![allow(clippy::disallowed_methods)]

use super::*;
use crate::config::{SigningKey, WebhookUrl};
use crate::obs::event::EventKind;
use rand::SeedableRng;

const S: Duration = Duration::from_secs(1);
const WALL: WallMs = WallMs(1_795_305_600_000);

fn hook(name: &str, events: &[&str]) -> Webhook {
    Webhook {
        name: name.into(),
        url: WebhookUrl { https: true, host: "x.example".into(), port: 443, path: "/".into() },
        key: SigningKey::new(vec![7; 32]),
        former: None,
        events: events.iter().map(|text| (*text).to_owned()).collect(),
        allow_private: false,
        ca: None,
    }
}

fn event(seq: u64) -> Event {
    Event { seq, at_ms: WALL, call: None, kind: EventKind::CallAnswered }
}

fn schedule() -> Schedule {
    Schedule::new(&[hook("crm", &["*"])], Random::seed_from_u64(1))
}

fn keeps(schedule: &mut Schedule) -> Vec<String> {
    std::iter::from_fn(|| schedule.poll_keep())
        .map(|keep| match keep {
            Keep::Write(letter) => format!("+{} {} {}", letter.name(), letter.tries, letter.dead),
            Keep::Remove(name) => format!("-{name}"),
        })
        .collect()
}

#[test]
fn an_event_goes_to_whoever_wants_it_signed_and_under_its_id() {
    let t = Instant::now();
    let hooks = [hook("crm", &["call-*"]), hook("pay", &["payment-*"]), hook("all", &["*"])];
    let mut s = Schedule::new(&hooks, Random::seed_from_u64(1));
    s.handle_event(t, "77.1", &event(1));
    let tries: Vec<Try> = std::iter::from_fn(|| s.poll_try(t, WALL)).collect();
    assert_eq!(tries.iter().map(|a| a.endpoint).collect::<Vec<_>>(), [0, 2]);
    let first = &tries[0];
    assert_eq!((first.id.as_str(), first.timestamp_s), ("evt_77.1", 1_795_305_600));
    assert_eq!(first.signature, sign(&hooks[0].key, "evt_77.1", 1_795_305_600, &first.body));
    let body: serde_json::Value = serde_json::from_str(&first.body).expect("JSON");
    assert_eq!((&body["type"], &body["timestamp"]), (&"call-answered".into(), &"2026-11-22T00:00:00.000Z".into()));
    assert_eq!(body["data"]["seq"], 1);
    for a in tries {
        s.handle_result(t, a.ticket, Result::Delivered);
    }
    assert!(s.poll_timeout().is_none());
    let both = ["+crm~evt_77.1 0 false", "+all~evt_77.1 0 false", "-crm~evt_77.1", "-all~evt_77.1"];
    assert_eq!(keeps(&mut s), both, "on disk before the first try, and gone with the letter");
}

#[test]
fn a_receiver_that_fails_is_tried_again_ever_more_seldom_and_then_given_up() {
    let mut now = Instant::now();
    let mut s = schedule();
    s.handle_event(now, "77.1", &event(1));
    for pause in PAUSES {
        let a = s.poll_try(now, WALL).expect("due");
        s.handle_result(now, a.ticket, Result::Failed(Failure::Status(500), None));
        let at = s.poll_timeout().expect("another try");
        let waited = at - now;
        assert!((pause.mul_f64(0.79)..pause.mul_f64(1.21)).contains(&waited), "{pause:?} {waited:?}");
        assert!(s.poll_try(at - Duration::from_millis(1), WALL).is_none());
        now = at;
    }
    assert!(s.dead().is_empty());
    let a = s.poll_try(now, WALL).expect("the last");
    s.handle_result(now, a.ticket, Result::Failed(Failure::Timeout, None));
    assert!(s.poll_timeout().is_none());
    let dead = s.dead();
    assert_eq!((dead.len(), dead[0].tries, dead[0].last), (1, 9, Some(Failure::Timeout)));
    let kept = keeps(&mut s);
    assert_eq!((kept.len(), kept[9].as_str()), (10, "+crm~evt_77.1 9 true"));
    // Replayed under the same id, and forgotten on disk when it is taken at last.
    assert!(!s.replay(now, "crm~evt_77.2"));
    assert!(s.replay(now, &dead[0].id));
    let again = s.poll_try(now, WALL).expect("due");
    assert_eq!(again.id, "evt_77.1");
    s.handle_result(now, again.ticket, Result::Delivered);
    assert_eq!(keeps(&mut s), ["+crm~evt_77.1 0 false", "-crm~evt_77.1"]);
    assert!(s.dead().is_empty());
}

#[test]
fn a_receiver_may_ask_for_more_time_within_reason_and_may_say_that_it_is_gone() {
    let t = Instant::now();
    let mut s = schedule();
    for (asked, waited) in [(60 * S, 60 * S), (Duration::MAX, LONGEST_ASKED)] {
        s.handle_event(t, "77.1", &event(1));
        let a = s.poll_try(t, WALL).expect("due");
        s.handle_result(t, a.ticket, Result::Failed(Failure::Status(503), Some(asked)));
        assert_eq!(s.poll_timeout(), Some(t + waited));
        let a = s.poll_try(t + waited, WALL).expect("due");
        s.handle_result(t + waited, a.ticket, Result::Failed(Failure::Status(410), None));
        assert_eq!(s.dead().len(), 1);
        assert!(s.forget(&s.dead()[0].id.clone()));
    }
    assert!(s.dead().is_empty());
}

#[test]
fn a_slow_receiver_gets_a_few_at_once_and_holds_no_other_up() {
    let t = Instant::now();
    let mut s = Schedule::new(&[hook("slow", &["*"]), hook("fast", &["*"])], Random::seed_from_u64(1));
    for seq in 1..=20 {
        s.handle_event(t, &format!("77.{seq}"), &event(seq));
    }
    let tries: Vec<Try> = std::iter::from_fn(|| s.poll_try(t, WALL)).collect();
    assert_eq!(tries.len(), 2 * AT_ONCE);
    assert_eq!(s.poll_timeout(), None, "both have their hands full");
    for a in tries.iter().filter(|a| a.endpoint == 1) {
        s.handle_result(t, a.ticket, Result::Delivered);
    }
    assert_eq!(s.poll_timeout(), Some(t));
    let more: Vec<usize> = std::iter::from_fn(|| s.poll_try(t, WALL)).map(|a| a.endpoint).collect();
    assert_eq!(more, [1; AT_ONCE]);
    assert_eq!(s.receivers(), [("slow".to_owned(), 20), ("fast".to_owned(), 12)]);
}

#[test]
fn letters_and_dead_letters_are_bounded() {
    let t = Instant::now();
    let mut s = schedule();
    for seq in 0..(MOST_WAITING + MOST_DEAD + 50) as u64 {
        s.handle_event(t, &format!("77.{seq}"), &event(seq));
        while s.poll_keep().is_some() {}
    }
    assert_eq!((s.receivers()[0].1, s.dead().len()), (MOST_WAITING, MOST_DEAD));
    assert_eq!(s.dead()[0].webhook_id, "evt_77.50");
    assert_eq!(s.dead()[0].last, Some(Failure::Overflow));
    assert_eq!(s.replay_all(t, "nobody"), None);
}

#[test]
fn what_an_earlier_run_left_is_tried_again_and_what_was_dead_stays_dead() {
    let t = Instant::now();
    let mut s = schedule();
    s.handle_event(t, "77.1", &event(1));
    s.handle_event(t, "77.2", &event(2));
    s.close();
    let written: Vec<Letter> = std::iter::from_fn(|| s.poll_keep())
        .map(|keep| match keep {
            Keep::Write(letter) => letter,
            Keep::Remove(name) => panic!("{name}"),
        })
        .collect();
    let mut later = schedule();
    for (place, mut letter) in written.into_iter().enumerate() {
        letter.dead = place == 1;
        let text = serde_json::to_string(&letter).expect("json");
        assert!(later.restore(t, serde_json::from_str(&text).expect("a letter")));
    }
    let a = later.poll_try(t, WALL).expect("due");
    assert_eq!(a.id, "evt_77.1");
    assert!(later.poll_try(t, WALL).is_none());
    assert_eq!(later.dead().iter().map(|dead| dead.id.as_str()).collect::<Vec<_>>(), ["crm~evt_77.2"]);
    let mut other = Schedule::new(&[hook("other", &["*"])], Random::seed_from_u64(1));
    assert!(!other.restore(t, Letter::new("crm", "77.1", "mask", &event(1))));
    assert_eq!(later.replay_all(t, "crm"), Some(1));
}
