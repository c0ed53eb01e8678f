//! Reliable provisional responses (RFC 3262), one early dialog at a time. [`Sent`] is the answering side: responses,
//! PRACKs and the time go in; responses to send come out, one unacknowledged at a time, repeated until their PRACK.
//! [`Received`] is the asking side: responses go in; whether each is to be acknowledged comes out. Neither sends
//! anything nor looks into a body.
//!
//! ```text
//!          push(): RSeq given, send                PRACK
//!  Idle ─────────────────────────► Unacknowledged ───────► Idle, or the next of the queue
//!                                   │   ▲    │ 64×T1
//!              push(): queue ◄──────┤   │    └──────► GiveUp: refuse the INVITE
//!                                   └───┘ T1 doubling: send again
//! ```

use std::collections::VecDeque;
use std::time::Instant;

use super::msg::header::{RAck, rseq};
use super::msg::{HeaderName, Response};
use super::txn::{Pause, Timers};

/// The option tag.
pub const TAG: &str = "100rel";

/// The most responses that wait for an earlier one's PRACK; past it the oldest without a body is left out.
const LONGEST_QUEUE: usize = 8;

/// What time has brought.
#[derive(Debug)]
pub enum Due {
    /// Nothing.
    Nothing,
    /// Send this again.
    Resend(Response),
    /// No PRACK in 64×T1: the INVITE is to be refused (section 3).
    GiveUp,
}

/// The answering side of one early dialog.
#[derive(Debug)]
pub struct Sent {
    next: u32,
    current: Option<Pending>,
    queue: VecDeque<Response>,
}

/// A response that waits for its PRACK.
#[derive(Debug)]
struct Pending {
    rseq: u32,
    response: Response,
    pause: Pause,
    due: Instant,
    until: Instant,
}

impl Sent {
    /// Nothing sent yet; the first response gets the number `first`, of which the lower half is used.
    pub fn new(first: u32) -> Self {
        Self { next: (first >> 1).max(1), current: None, queue: VecDeque::new() }
    }

    /// Takes a response to be sent reliably; gives what to send now, or `None` while an earlier one waits for its PRACK.
    pub fn push(&mut self, now: Instant, t: &Timers, response: Response) -> Option<Response> {
        if self.current.is_some() {
            if self.queue.len() == LONGEST_QUEUE {
                let spare = self.queue.iter().position(|waiting| waiting.body.is_empty()).unwrap_or_default();
                self.queue.remove(spare);
            }
            self.queue.push_back(response);
            return None;
        }
        Some(self.send(now, t, response))
    }

    fn send(&mut self, now: Instant, t: &Timers, mut response: Response) -> Response {
        let rseq = self.next;
        self.next += 1;
        response.headers.push_token(HeaderName::Require, TAG);
        response.headers.push(HeaderName::RSeq, rseq.to_string());
        let pending = Pending {
            rseq,
            response: response.clone(),
            pause: Pause::new(t.t1, None),
            due: now + t.t1,
            until: now + t.give_up(),
        };
        self.current = Some(pending);
        response
    }

    /// A PRACK came: whether it acknowledges what waits. If so, [`Sent::poll_next`] may have more to send.
    pub fn handle_prack(&mut self, rack: &RAck<'_>) -> bool {
        let Some(pending) = &self.current else { return false };
        let answered = pending.response.cseq().is_ok_and(|cseq| cseq == rack.cseq);
        let fits = pending.rseq == rack.rseq && answered;
        if fits {
            self.current = None;
        }
        fits
    }

    /// The next response of the queue, when nothing waits for a PRACK any more.
    pub fn poll_next(&mut self, now: Instant, t: &Timers) -> Option<Response> {
        if self.current.is_some() {
            return None;
        }
        let response = self.queue.pop_front()?;
        Some(self.send(now, t, response))
    }

    /// The final answer is given: nothing is repeated any more, but the PRACK on its way is still known.
    pub fn settle(&mut self) {
        self.queue.clear();
        if let Some(pending) = &mut self.current {
            pending.due = pending.until;
        }
    }

    /// Whether a response waits for its PRACK.
    pub fn is_waiting(&self) -> bool {
        self.current.is_some()
    }

    /// Whether a body waits for its PRACK: then no 2xx may be sent (section 3).
    pub fn holds_answer(&self) -> bool {
        self.current.iter().map(|pending| &pending.response).chain(&self.queue).any(|waiting| !waiting.body.is_empty())
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, now: Instant) -> Due {
        let Some(pending) = self.current.as_mut().filter(|pending| pending.due <= now) else { return Due::Nothing };
        if pending.until <= now {
            self.current = None;
            self.queue.clear();
            return Due::GiveUp;
        }
        pending.due = (now + pending.pause.grow()).min(pending.until);
        Due::Resend(pending.response.clone())
    }

    /// When [`Sent::handle_timeout`] is wanted.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.current.as_ref().map(|pending| pending.due)
    }
}

/// What a reliable response is in its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The first, or the next: to be acknowledged by this number.
    New(u32),
    /// Seen before: its PRACK is under way.
    Repeated,
    /// One before it is missing: not to be acknowledged, nor looked at (section 4).
    OutOfOrder,
}

/// The asking side of one early dialog.
#[derive(Debug, Default)]
pub struct Received {
    last: Option<u32>,
}

impl Received {
    /// Places a provisional response; `None` when it was not sent reliably.
    pub fn take(&mut self, response: &Response) -> Option<Order> {
        let number = rseq(response.headers.get(HeaderName::RSeq)?).ok()?;
        if response.status == 100 || !response.headers.lists(HeaderName::Require, TAG) {
            return None;
        }
        Some(match self.last {
            Some(last) if number <= last => Order::Repeated,
            Some(last) if last.checked_add(1) != Some(number) => Order::OutOfOrder,
            _ => {
                self.last = Some(number);
                Order::New(number)
            }
        })
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::sip::{Method, Request};

    const MS: Duration = Duration::from_millis(1);

    fn ringing(body: &str) -> Response {
        let mut invite = Request::new(Method::Invite, "sip:a@b");
        invite.headers.push(HeaderName::CSeq, "7 INVITE");
        let mut response = Response::for_request(&invite, 183, "");
        response.set_body("application/sdp", body.to_owned());
        response
    }

    fn number(response: &Response) -> u32 {
        response.headers.text(HeaderName::RSeq).and_then(|n| n.parse().ok()).expect("RSeq")
    }

    fn rack(text: &str) -> RAck<'_> {
        RAck::parse(text.as_bytes()).expect("RAck")
    }

    #[test]
    fn one_response_at_a_time_is_on_its_way_and_each_prack_lets_the_next_go() {
        let (t, now) = (Timers::default(), Instant::now());
        let mut sent = Sent::new(200);
        let first = sent.push(now, &t, ringing("")).expect("at once");
        assert_eq!(number(&first), 100);
        assert!(first.headers.lists(HeaderName::Require, TAG));
        assert!(sent.push(now, &t, ringing("v=0")).is_none());
        assert!(sent.holds_answer());
        assert!(!sent.handle_prack(&rack("101 7 INVITE")) && !sent.handle_prack(&rack("100 8 INVITE")));
        assert!(!sent.handle_prack(&rack("100 7 UPDATE")) && sent.poll_next(now, &t).is_none());
        assert!(sent.handle_prack(&rack("100 7 INVITE")) && !sent.handle_prack(&rack("100 7 INVITE")));
        assert_eq!(sent.poll_next(now, &t).map(|next| number(&next)), Some(101));
        assert!(sent.handle_prack(&rack("101 7 INVITE")) && !sent.is_waiting() && !sent.holds_answer());
        assert_eq!(sent.poll_timeout(), None);
    }

    #[test]
    fn it_is_repeated_at_t1_doubling_and_given_up_after_32_s() {
        let (t, start) = (Timers::default(), Instant::now());
        let mut sent = Sent::new(0);
        let _ = sent.push(start, &t, ringing(""));
        let mut at = vec![];
        loop {
            let now = sent.poll_timeout().expect("waiting");
            at.push((now - start).as_millis());
            match sent.handle_timeout(now) {
                Due::Resend(again) => assert_eq!(number(&again), 1),
                Due::GiveUp => break,
                Due::Nothing => panic!("woken for nothing"),
            }
            assert!(matches!(sent.handle_timeout(now), Due::Nothing));
        }
        assert_eq!(at, [500, 1_500, 3_500, 7_500, 15_500, 31_500, 32_000]);
        assert!(!sent.is_waiting());
    }

    #[test]
    fn after_the_final_answer_nothing_is_repeated_but_a_late_prack_is_known() {
        let (t, now) = (Timers::default(), Instant::now());
        let mut sent = Sent::new(0);
        let _ = sent.push(now, &t, ringing(""));
        let _ = sent.push(now, &t, ringing(""));
        sent.settle();
        assert!(matches!(sent.handle_timeout(now + 500 * MS), Due::Nothing));
        assert!(sent.handle_prack(&rack("1 7 INVITE")) && sent.poll_next(now, &t).is_none());
    }

    #[test]
    fn a_long_queue_leaves_out_what_carries_nothing() {
        let (t, now) = (Timers::default(), Instant::now());
        let mut sent = Sent::new(0);
        for body in ["", "v=0", "", "", "", "", "", "", "", "", ""] {
            let _ = sent.push(now, &t, ringing(body));
        }
        assert_eq!(sent.queue.len(), LONGEST_QUEUE);
        assert!(sent.holds_answer());
    }

    #[test]
    fn responses_are_acknowledged_in_their_order() {
        let take = |received: &mut Received, number: &str, require: &str| {
            let mut response = ringing("");
            response.headers.push(HeaderName::RSeq, number);
            response.headers.push(HeaderName::Require, require);
            received.take(&response)
        };
        let mut received = Received::default();
        assert_eq!(take(&mut received, "5", "100rel"), Some(Order::New(5)));
        assert_eq!(take(&mut received, "5", "100rel"), Some(Order::Repeated));
        assert_eq!(take(&mut received, "7", "100rel"), Some(Order::OutOfOrder));
        assert_eq!(take(&mut received, "6", "timer, 100REL"), Some(Order::New(6)));
        assert_eq!(take(&mut received, "7", "timer"), None);
        assert_eq!(take(&mut received, "x", "100rel"), None);
        let mut highest = Received { last: Some(u32::MAX) };
        assert_eq!(take(&mut highest, "1", "100rel"), Some(Order::Repeated));
    }
}
