//! Each figure of RFC 3261 section 17 walked through in virtual time.

use std::time::{Duration, Instant};

use super::*;

const T: Timers = Timers {
    t1: Duration::from_millis(500),
    t2: Duration::from_secs(4),
    t4: Duration::from_secs(5),
    trying: Duration::from_millis(200),
};

#[allow(clippy::disallowed_methods)]
fn start() -> Instant {
    Instant::now()
}

fn ms(since: Instant, at: Instant) -> u64 {
    u64::try_from((at - since).as_millis()).expect("a short test")
}

fn after(since: Instant, ms: u64) -> Instant {
    since + Duration::from_millis(ms)
}

#[test]
fn an_invite_is_resent_with_doubling_gaps_until_timer_b() {
    let t0 = start();
    let mut machine = ClientInvite::start(t0, &T, false);
    let mut sent = Vec::new();
    loop {
        let at = machine.poll_timeout().expect("armed");
        match machine.handle_timeout(at) {
            InviteDue::Resend => sent.push(ms(t0, at)),
            InviteDue::TimedOut => {
                assert_eq!(ms(t0, at), 32_000);
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(sent, [500, 1500, 3500, 7500, 15_500, 31_500]);
    assert!(machine.is_over() && machine.poll_timeout().is_none());
}

#[test]
fn an_invite_over_tcp_is_sent_once() {
    let t0 = start();
    let mut machine = ClientInvite::start(t0, &T, true);
    assert_eq!(machine.poll_timeout(), Some(after(t0, 32_000)));
    assert_eq!(machine.handle_timeout(after(t0, 32_000)), InviteDue::TimedOut);
}

#[test]
fn a_provisional_stops_resending_and_timer_b() {
    let t0 = start();
    let mut machine = ClientInvite::start(t0, &T, false);
    assert_eq!(machine.cancel_when(), CancelWhen::Later);
    assert_eq!(machine.handle_response(t0, &T, 100), InviteAnswer::FirstProvisional);
    assert_eq!(machine.poll_timeout(), None);
    assert_eq!(machine.handle_response(t0, &T, 180), InviteAnswer::Provisional);
    assert_eq!(machine.cancel_when(), CancelWhen::Now);
}

#[test]
fn a_failure_is_acknowledged_each_time_until_timer_d() {
    let t0 = start();
    let mut machine = ClientInvite::start(t0, &T, false);
    assert_eq!(machine.handle_response(t0, &T, 486), InviteAnswer::Failure);
    assert_eq!(machine.handle_response(t0, &T, 486), InviteAnswer::Again);
    assert_eq!(machine.handle_response(t0, &T, 200), InviteAnswer::Ignore);
    assert_eq!(machine.handle_response(t0, &T, 180), InviteAnswer::Ignore);
    assert_eq!(machine.cancel_when(), CancelWhen::Never);
    assert_eq!(machine.poll_timeout(), Some(after(t0, 32_000)));
    assert_eq!(machine.handle_timeout(after(t0, 32_000)), InviteDue::Over);
    assert!(machine.is_over());
}

#[test]
fn over_tcp_a_failure_ends_the_transaction_at_once() {
    let t0 = start();
    let mut machine = ClientInvite::start(t0, &T, true);
    assert_eq!(machine.handle_response(t0, &T, 404), InviteAnswer::Failure);
    assert!(machine.is_over());
}

#[test]
fn an_accepted_invite_takes_further_2xx_until_timer_m() {
    for reliable in [false, true] {
        let t0 = start();
        let mut machine = ClientInvite::start(t0, &T, reliable);
        assert_eq!(machine.handle_response(t0, &T, 200), InviteAnswer::Success);
        assert_eq!(machine.handle_response(t0, &T, 200), InviteAnswer::Success);
        assert_eq!(machine.handle_response(t0, &T, 486), InviteAnswer::Ignore);
        assert_eq!(machine.handle_timeout(after(t0, 32_000)), InviteDue::Over);
    }
}

#[test]
fn a_cancelled_invite_without_a_final_answer_is_given_up() {
    let t0 = start();
    let mut machine = ClientInvite::start(t0, &T, false);
    machine.handle_response(t0, &T, 180);
    machine.cancelled(t0, &T);
    assert_eq!(machine.handle_timeout(after(t0, 31_999)), InviteDue::Nothing);
    assert_eq!(machine.handle_timeout(after(t0, 32_000)), InviteDue::TimedOut);
}

#[test]
fn transport_errors_count_only_before_an_answer() {
    let t0 = start();
    let mut machine = ClientInvite::start(t0, &T, false);
    assert!(machine.handle_transport_error() && machine.is_over());
    let mut machine = ClientInvite::start(t0, &T, false);
    machine.handle_response(t0, &T, 180);
    assert!(!machine.handle_transport_error() && !machine.is_over());
    let mut machine = ClientOther::start(t0, &T, true);
    assert!(machine.handle_transport_error() && machine.is_over());
}

#[test]
fn a_request_is_resent_with_gaps_up_to_t2_until_timer_f() {
    let t0 = start();
    let mut machine = ClientOther::start(t0, &T, false);
    let mut sent = Vec::new();
    loop {
        let at = machine.poll_timeout().expect("armed");
        match machine.handle_timeout(at) {
            OtherDue::Resend => sent.push(ms(t0, at)),
            OtherDue::TimedOut => {
                assert_eq!(ms(t0, at), 32_000);
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(sent, [500, 1500, 3500, 7500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500]);
}

#[test]
fn a_provisional_slows_a_request_to_t2_but_does_not_stop_it() {
    let t0 = start();
    let mut machine = ClientOther::start(t0, &T, false);
    assert_eq!(machine.handle_response(t0, &T, 183), Answer::Deliver);
    assert_eq!(machine.handle_timeout(after(t0, 500)), OtherDue::Resend);
    assert_eq!(machine.poll_timeout(), Some(after(t0, 4500)));
    assert_eq!(machine.handle_response(after(t0, 4600), &T, 200), Answer::Deliver);
    assert_eq!(machine.handle_response(after(t0, 4600), &T, 200), Answer::Ignore);
    assert_eq!(machine.poll_timeout(), Some(after(t0, 9600)));
    assert_eq!(machine.handle_timeout(after(t0, 9600)), OtherDue::Over);
}

#[test]
fn over_tcp_a_final_answer_ends_a_request_at_once() {
    let t0 = start();
    let mut machine = ClientOther::start(t0, &T, true);
    assert_eq!(machine.poll_timeout(), Some(after(t0, 32_000)));
    assert_eq!(machine.handle_response(t0, &T, 200), Answer::Deliver);
    assert!(machine.is_over());
}

#[test]
fn a_waiting_invite_is_answered_trying_after_200_ms() {
    let t0 = start();
    let mut machine = ServerInvite::start(t0, &T, false);
    assert_eq!(machine.handle_timeout(after(t0, 199)), ServerDue::Nothing);
    assert_eq!(machine.handle_timeout(after(t0, 200)), ServerDue::SendTrying);
    let mut machine = ServerInvite::start(t0, &T, false);
    assert!(machine.handle_answer(t0, &T, 180));
    assert_eq!(machine.poll_timeout(), None);
}

#[test]
fn a_failure_is_resent_by_timer_g_until_its_ack() {
    let t0 = start();
    let mut machine = ServerInvite::start(t0, &T, false);
    assert!(machine.handle_answer(t0, &T, 486));
    assert!(!machine.handle_answer(t0, &T, 200), "one final answer");
    assert!(machine.handle_again());
    let mut sent = Vec::new();
    for _ in 0..4 {
        let at = machine.poll_timeout().expect("armed");
        assert_eq!(machine.handle_timeout(at), ServerDue::Resend);
        sent.push(ms(t0, at));
    }
    assert_eq!(sent, [500, 1500, 3500, 7500]);
    assert!(machine.handle_ack(after(t0, 8000), &T));
    assert!(!machine.handle_again());
    assert!(machine.handle_ack(after(t0, 8000), &T), "a repeated ACK is absorbed");
    assert_eq!(machine.poll_timeout(), Some(after(t0, 13_000)));
    assert_eq!(machine.handle_timeout(after(t0, 13_000)), ServerDue::Over);
}

#[test]
fn a_failure_without_ack_ends_by_timer_h() {
    for reliable in [false, true] {
        let t0 = start();
        let mut machine = ServerInvite::start(t0, &T, reliable);
        machine.handle_answer(t0, &T, 486);
        assert_eq!(machine.handle_timeout(after(t0, 32_000)), ServerDue::NoAck);
        assert!(machine.is_over());
    }
}

#[test]
fn over_tcp_a_failure_is_not_resent_and_its_ack_ends_all() {
    let t0 = start();
    let mut machine = ServerInvite::start(t0, &T, true);
    machine.handle_answer(t0, &T, 486);
    assert_eq!(machine.poll_timeout(), Some(after(t0, 32_000)));
    assert!(machine.handle_ack(t0, &T) && machine.is_over());
}

#[test]
fn a_2xx_is_resent_until_its_ack_on_every_transport() {
    for reliable in [false, true] {
        let t0 = start();
        let mut machine = ServerInvite::start(t0, &T, reliable);
        machine.handle_answer(t0, &T, 200);
        assert!(!machine.handle_again(), "a repeated INVITE is absorbed");
        assert!(!machine.handle_ack(t0, &T), "its ACK is not found by branch");
        let mut sent = Vec::new();
        for _ in 0..5 {
            let at = machine.poll_timeout().expect("armed");
            assert_eq!(machine.handle_timeout(at), ServerDue::Resend);
            sent.push(ms(t0, at));
        }
        assert_eq!(sent, [500, 1500, 3500, 7500, 11_500]);
        assert!(machine.handle_ack_2xx());
        assert!(!machine.handle_ack_2xx(), "only the first ACK is told");
        assert_eq!(machine.poll_timeout(), Some(after(t0, 32_000)));
        assert_eq!(machine.handle_timeout(after(t0, 32_000)), ServerDue::Over);
    }
}

#[test]
fn a_2xx_never_acknowledged_is_told() {
    let t0 = start();
    let mut machine = ServerInvite::start(t0, &T, false);
    machine.handle_answer(t0, &T, 200);
    assert_eq!(machine.handle_timeout(after(t0, 32_000)), ServerDue::NoAck);
}

#[test]
fn a_request_taken_is_absorbed_then_answered_again_until_timer_j() {
    let t0 = start();
    let mut machine = ServerOther::start(t0, &T, false);
    assert!(!machine.handle_again());
    assert!(machine.handle_answer(t0, &T, 183) && machine.handle_again());
    assert!(machine.handle_answer(t0, &T, 200) && machine.handle_again());
    assert!(!machine.handle_answer(t0, &T, 500) && !machine.is_open());
    assert_eq!(machine.poll_timeout(), Some(after(t0, 32_000)));
    machine.handle_timeout(after(t0, 32_000));
    assert!(machine.is_over());
}

#[test]
fn over_tcp_an_answer_ends_a_request_taken_and_silence_ends_any() {
    let t0 = start();
    let mut machine = ServerOther::start(t0, &T, true);
    assert!(machine.handle_answer(t0, &T, 200) && machine.is_over());
    let mut machine = ServerOther::start(t0, &T, false);
    machine.handle_timeout(after(t0, 32_000));
    assert!(machine.is_over());
}
