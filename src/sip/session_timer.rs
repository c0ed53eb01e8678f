//! Session timers (RFC 4028) of one dialog. Requests, responses and the time go in; header values, and whether to
//! refresh or to end the session, come out. It sends nothing: how a refresh looks is the user's decision.
//!
//! ```text
//!             2xx with Session-Expires, either way
//!   Stopped ─────────────────────────────────────► Running ──┐ 2xx of any INVITE or UPDATE: again from the start
//!      ▲                                             │  ▲─────┘
//!      └── 2xx without, where none is demanded ──────┤
//!                                                    ├── half the interval, we refresh ─► Refresh
//!                                                    └── interval − min(32 s, a third) ─► Expired: send BYE
//! ```

use std::time::{Duration, Instant};

use super::msg::header::{Refresher, SessionExpires, min_se};
use super::msg::{HeaderName, Headers, Request, Response};
use crate::base::time::soonest;
use crate::config::{Extension, Methods};

/// The option tag.
pub const TAG: &str = "timer";

/// How soon a refresh that failed for the moment is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// What time has brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Nothing.
    Nothing,
    /// Send a refresh.
    Refresh,
    /// Nobody refreshed: send BYE.
    Expired,
}

/// A session that lasts only as long as it is refreshed.
#[derive(Debug, Clone, Copy)]
struct Running {
    interval: u32,
    /// When we refresh next; `None` when the peer does, or while our refresh is under way.
    refresh: Option<Instant>,
    /// Whether refreshing is ours.
    ours: bool,
    over: Instant,
}

/// The session timer of one dialog.
#[derive(Debug, Clone)]
pub struct SessionTimer {
    use_it: Extension,
    expires: u32,
    min: u32,
    running: Option<Running>,
}

impl SessionTimer {
    /// A timer as a trunk wants it; stopped.
    pub fn new(methods: &Methods) -> Self {
        let seconds = |of: Duration| u32::try_from(of.as_secs()).unwrap_or(u32::MAX);
        let (expires, min) = (seconds(methods.session_expires), seconds(methods.session_min));
        Self { use_it: methods.session_timer, expires, min, running: None }
    }

    /// Writes what an INVITE or UPDATE of ours says of the session's time.
    pub fn write_request(&self, headers: &mut Headers) {
        if self.use_it == Extension::Off {
            return;
        }
        let refresher = self.running.map(|running| if running.ours { Refresher::Uac } else { Refresher::Uas });
        let seconds = self.running.map_or(self.expires, |running| running.interval).max(self.min);
        headers.push_token(HeaderName::Supported, TAG);
        headers.push(HeaderName::SessionExpires, SessionExpires { seconds, refresher }.to_string());
        headers.push(HeaderName::MinSe, self.min.to_string());
    }

    /// Whether a request of the peer's asks for too short a session: then the value of Min-SE for the 422 (section 6).
    pub fn too_short(&self, request: &Request) -> Option<u32> {
        if self.use_it == Extension::Off || !request.headers.lists(HeaderName::Supported, TAG) {
            return None;
        }
        let asked = session_expires(&request.headers)?;
        (asked.seconds < self.min).then_some(self.min)
    }

    /// Our 2xx to the peer's INVITE or UPDATE: says how long the session lasts and starts the timer (section 9).
    pub fn write_answer(&mut self, now: Instant, request: &Request, headers: &mut Headers) {
        if self.use_it == Extension::Off {
            return;
        }
        let has_timer = request.headers.lists(HeaderName::Supported, TAG);
        let asked = session_expires(&request.headers);
        if asked.is_none() && !has_timer && self.use_it != Extension::Required {
            self.running = None;
            return;
        }
        let floor = request.headers.get(HeaderName::MinSe).and_then(|value| min_se(value).ok()).unwrap_or_default();
        let wanted = asked.map_or(self.expires, |asked| asked.seconds.min(self.expires));
        let seconds = wanted.max(floor).max(self.min);
        let refresher = match asked.and_then(|asked| asked.refresher) {
            // Only a peer that has the timer can refresh.
            _ if !has_timer => Refresher::Uas,
            Some(refresher) => refresher,
            None => Refresher::Uac,
        };
        headers.push_token(HeaderName::Supported, TAG);
        if refresher == Refresher::Uac {
            headers.push_token(HeaderName::Require, TAG);
        }
        headers.push(HeaderName::SessionExpires, SessionExpires { seconds, refresher: Some(refresher) }.to_string());
        self.start(now, seconds, refresher == Refresher::Uas);
    }

    /// The peer's 2xx to an INVITE or UPDATE of ours (section 7.2).
    pub fn handle_response(&mut self, now: Instant, response: &Response) {
        if self.use_it == Extension::Off {
            return;
        }
        match session_expires(&response.headers) {
            // A peer may lower what we asked for, but a session of no time at all would end at once.
            Some(told) => self.start(now, told.seconds.max(90), told.refresher != Some(Refresher::Uas)),
            None if self.use_it == Extension::Required => self.start(now, self.expires.max(self.min), true),
            None => self.running = None,
        }
    }

    /// The peer finds our interval too short: the next request asks for at least what its 422 says. `false`: it says
    /// nothing that would help.
    pub fn handle_too_short(&mut self, response: &Response) -> bool {
        let floor = response.headers.get(HeaderName::MinSe).and_then(|value| min_se(value).ok());
        let helps = floor.is_some_and(|floor| floor > self.min && floor <= 86_400);
        if let Some(floor) = floor.filter(|_| helps) {
            self.min = floor;
            self.expires = self.expires.max(floor);
        }
        helps
    }

    /// A refresh of ours failed without ending the dialog: it is tried again soon, or after `pause`.
    pub fn handle_failed(&mut self, now: Instant, pause: Option<Duration>) {
        if let Some(running) = self.running.as_mut().filter(|running| running.ours) {
            running.refresh = Some(now + pause.unwrap_or(AGAIN));
        }
    }

    fn start(&mut self, now: Instant, interval: u32, ours: bool) {
        let whole = Duration::from_secs(interval.into());
        let spare = (whole / 3).min(Duration::from_secs(32));
        let refresh = ours.then(|| now + whole / 2);
        self.running = Some(Running { interval, refresh, ours, over: now + whole - spare });
    }

    /// Time passed. [`Due::Refresh`] comes once per refresh; its outcome starts the timer anew.
    pub fn handle_timeout(&mut self, now: Instant) -> Due {
        let Some(running) = &mut self.running else { return Due::Nothing };
        if running.over <= now {
            self.running = None;
            return Due::Expired;
        }
        if running.refresh.is_some_and(|at| at <= now) {
            running.refresh = None;
            return Due::Refresh;
        }
        Due::Nothing
    }

    /// When [`SessionTimer::handle_timeout`] is wanted.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let running = self.running.as_ref()?;
        soonest(Some(running.over), running.refresh)
    }
}

fn session_expires(headers: &Headers) -> Option<SessionExpires> {
    SessionExpires::parse(headers.get(HeaderName::SessionExpires)?).ok()
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use super::*;
    use crate::sip::Method;

    fn timer(use_it: Extension) -> SessionTimer {
        SessionTimer::new(&Methods { session_timer: use_it, ..Methods::default() })
    }

    fn request(supported: &str, expires: Option<&str>) -> Request {
        let mut request = Request::new(Method::Invite, "sip:a@b");
        request.headers.push(HeaderName::Supported, supported);
        if let Some(expires) = expires {
            request.headers.push(HeaderName::SessionExpires, expires);
        }
        request
    }

    fn answered(timer: &mut SessionTimer, now: Instant, request: &Request) -> (Option<String>, Option<String>) {
        let mut headers = Headers::new();
        timer.write_answer(now, request, &mut headers);
        let text = |name| headers.text(name).map(str::to_owned);
        (text(HeaderName::SessionExpires), text(HeaderName::Require))
    }

    fn ok(expires: Option<&str>) -> Response {
        let mut response = Response::new(200, "");
        if let Some(expires) = expires {
            response.headers.push(HeaderName::SessionExpires, expires);
        }
        response
    }

    fn due(timer: &SessionTimer, now: Instant) -> Option<u64> {
        timer.poll_timeout().map(|at| (at - now).as_secs())
    }

    /// RFC 4028 table 2: who refreshes, by what the request says and the peer can.
    #[test]
    fn the_answer_names_the_refresher_by_table_2() {
        let now = Instant::now();
        for (supported, asked, told, require, wake) in [
            ("timer", Some("600"), Some("600;refresher=uac"), Some(TAG), Some(568)),
            ("timer", Some("600;refresher=uas"), Some("600;refresher=uas"), None, Some(300)),
            ("timer", None, Some("1800;refresher=uac"), Some(TAG), Some(1_768)),
            ("path", Some("600;refresher=uac"), Some("600;refresher=uas"), None, Some(300)),
            ("timer", Some("9000"), Some("1800;refresher=uac"), Some(TAG), Some(1_768)),
            ("path", None, None, None, None),
        ] {
            let mut timer = timer(Extension::Supported);
            let (expires, required) = answered(&mut timer, now, &request(supported, asked));
            assert_eq!((expires.as_deref(), required.as_deref()), (told, require), "{supported} {asked:?}");
            assert_eq!(due(&timer, now), wake, "{supported} {asked:?}");
        }
        let mut required = timer(Extension::Required);
        assert_eq!(answered(&mut required, now, &request("path", None)).0.as_deref(), Some("1800;refresher=uas"));
        let mut off = timer(Extension::Off);
        assert_eq!(answered(&mut off, now, &request("timer", Some("600"))), (None, None));
    }

    #[test]
    fn too_short_a_session_is_named_with_our_least_only_to_who_understands() {
        let timer = SessionTimer::new(&Methods { session_min: Duration::from_secs(120), ..Methods::default() });
        assert_eq!(timer.too_short(&request("timer", Some("119"))), Some(120));
        assert_eq!(timer.too_short(&request("timer", Some("120"))), None);
        assert_eq!(timer.too_short(&request("path", Some("90"))), None);
    }

    #[test]
    fn the_refresher_acts_at_half_time_and_anew_after_each_answer() {
        let now = Instant::now();
        let second = Duration::from_secs(1);
        let mut timer = timer(Extension::Supported);
        timer.handle_response(now, &ok(Some("600;refresher=uac")));
        assert_eq!(timer.handle_timeout(now + 299 * second), Due::Nothing);
        assert_eq!(timer.handle_timeout(now + 300 * second), Due::Refresh);
        assert_eq!(timer.handle_timeout(now + 301 * second), Due::Nothing);
        let mut headers = Headers::new();
        timer.write_request(&mut headers);
        assert_eq!(headers.text(HeaderName::SessionExpires), Some("600;refresher=uac"));
        timer.handle_failed(now + 302 * second, None);
        assert_eq!(timer.handle_timeout(now + 307 * second), Due::Refresh);
        timer.handle_response(now + 308 * second, &ok(Some("600;refresher=uas")));
        assert_eq!(due(&timer, now), Some(308 + 568));
        assert_eq!(timer.handle_timeout(now + 876 * second), Due::Expired);
        assert_eq!(timer.poll_timeout(), None);
    }

    #[test]
    fn a_peer_without_timers_is_refreshed_only_on_demand() {
        let now = Instant::now();
        let mut supported = timer(Extension::Supported);
        supported.handle_response(now, &ok(None));
        assert_eq!(supported.poll_timeout(), None);
        let mut required = timer(Extension::Required);
        required.handle_response(now, &ok(None));
        assert_eq!(due(&required, now), Some(900));
        required.handle_response(now, &ok(Some("1;refresher=uas")));
        assert_eq!(due(&required, now), Some(60), "no session lasts less than 90 s");
    }

    #[test]
    fn a_422_raises_what_we_ask_for_within_reason() {
        let mut timer = timer(Extension::Supported);
        let refusal = |min: &str| {
            let mut response = Response::new(422, "");
            response.headers.push(HeaderName::MinSe, min);
            response
        };
        for useless in ["60", "90", "x", "4000000000"] {
            assert!(!timer.handle_too_short(&refusal(useless)), "{useless}");
        }
        assert!(!timer.handle_too_short(&Response::new(422, "")));
        assert!(timer.handle_too_short(&refusal("3600")));
        let mut headers = Headers::new();
        timer.write_request(&mut headers);
        assert_eq!(headers.text(HeaderName::SessionExpires), Some("3600"));
        assert_eq!(headers.text(HeaderName::MinSe), Some("3600"));
    }
}
