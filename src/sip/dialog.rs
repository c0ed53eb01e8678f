//! Dialogs (RFC 3261 section 12): what two ends remember of each other. Messages go in; requests within the dialog and
//! verdicts on the peer's requests come out. Pure data: no timer, no transaction; the endpoint has those.
//!
//! ```text
//!            1xx with tag            2xx
//!  (INVITE) ------------> Early ------------> Confirmed ---- BYE sent or taken, 481/408 ----> Ended
//!      \--------------------------- 2xx ---------^
//! ```
//!
//! Glare (section 14): one INVITE at a time. Ours pending and theirs comes: 491. Theirs pending and another of theirs
//! comes: 500 with Retry-After. Ours may start only while [`Dialog::may_invite`].

use std::time::Duration;

use rand::RngExt;

use crate::base::Random;

use super::msg::header::{NameAddr, address};
use super::msg::{HeaderFault, HeaderName, Method, Request, Response, Uri};

/// What identifies a dialog (RFC 3261 section 12): equal on retransmissions, different per fork.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DialogId {
    /// Call-ID.
    pub call_id: String,
    /// Our tag.
    pub local_tag: String,
    /// The peer's tag; empty for a peer of RFC 2543 that has none.
    pub remote_tag: String,
}

impl DialogId {
    /// The dialog a request from the peer belongs to; `None` when its To has no tag.
    pub fn of_request(request: &Request) -> Option<DialogId> {
        Some(DialogId {
            call_id: request.call_id()?.to_owned(),
            local_tag: request.to_tag()?.to_owned(),
            remote_tag: request.from_tag().unwrap_or_default().to_owned(),
        })
    }

    /// The dialog a response to a request of ours belongs to; `None` when its To has no tag.
    pub fn of_response(response: &Response) -> Option<DialogId> {
        Some(DialogId {
            call_id: response.call_id()?.to_owned(),
            local_tag: response.from_tag().unwrap_or_default().to_owned(),
            remote_tag: response.to_tag()?.to_owned(),
        })
    }
}

/// How far a dialog is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DialogState {
    /// Made by a provisional response.
    Early,
    /// Made or confirmed by a 2xx.
    Confirmed,
    /// Ended by BYE, 481 or 408.
    Ended,
}

/// Why a request within the dialog is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DialogFault {
    /// Its CSeq is not above the last one (RFC 3261 section 12.2.2).
    #[error("request out of order")]
    OutOfOrder,
    /// An INVITE of ours is pending (section 14.2).
    #[error("glare: an INVITE of ours is pending")]
    Glare,
    /// An earlier INVITE of theirs is not yet answered (section 14.2).
    #[error("an earlier INVITE is not yet answered")]
    InvitePending,
    /// The dialog has ended.
    #[error("the dialog has ended")]
    Ended,
}

impl DialogFault {
    /// The answer to the refused request.
    pub fn response(self, request: &Request, random: &mut Random) -> Response {
        match self {
            DialogFault::OutOfOrder => Response::for_request(request, 500, "Request Out Of Order"),
            DialogFault::Glare => Response::for_request(request, 491, ""),
            DialogFault::InvitePending => {
                let mut response = Response::for_request(request, 500, "INVITE Pending");
                // Section 14.2: a random value between 0 and 10 seconds.
                response.headers.push(HeaderName::RetryAfter, random.random_range(0..=10u32).to_string());
                response
            }
            DialogFault::Ended => Response::for_request(request, 481, ""),
        }
    }
}

/// One dialog as we see it.
#[derive(Debug, Clone)]
pub struct Dialog {
    id: DialogId,
    state: DialogState,
    /// We sent the INVITE that made it, so its Call-ID is ours.
    initiator: bool,
    local: String,
    remote: String,
    local_cseq: u32,
    remote_cseq: Option<u32>,
    remote_target: String,
    routes: Vec<String>,
    invite_sent: Option<u32>,
    invite_taken: Option<u32>,
}

impl Dialog {
    /// The caller's side, from the INVITE we sent and a 101–299 response with a To tag (RFC 3261 section 12.1.2).
    ///
    /// # Errors
    /// Blames the peer: a response without tag or, in a 2xx, without Contact.
    pub fn uac(request: &Request, response: &Response) -> Result<Dialog, HeaderFault> {
        let id = DialogId::of_response(response).ok_or(HeaderFault("response without a To tag"))?;
        let target = match response.contact() {
            Some(contact) => contact.raw_uri.to_owned(),
            None if response.is_final() => return Err(HeaderFault("2xx without Contact")),
            None => String::from_utf8_lossy(&request.raw_uri).into_owned(),
        };
        let cseq = request.cseq()?.number;
        let mut routes = route_set(response.headers.items(HeaderName::RecordRoute))?;
        routes.reverse();
        Ok(Dialog {
            local: bare_address(&request.from()?),
            remote: bare_address(&request.to()?),
            id,
            state: if response.is_final() { DialogState::Confirmed } else { DialogState::Early },
            initiator: true,
            local_cseq: cseq,
            remote_cseq: None,
            remote_target: target,
            routes,
            invite_sent: (!response.is_final() && request.method == Method::Invite).then_some(cseq),
            invite_taken: None,
        })
    }

    /// The called side, from the INVITE we took and the tag we put into our To (RFC 3261 section 12.1.1). Early until
    /// [`Dialog::confirm`]. Our own CSeq starts with `first_cseq` + 1.
    ///
    /// # Errors
    /// Blames the peer: headers that do not parse, which a message taken by the endpoint never has.
    pub fn uas(request: &Request, local_tag: &str, first_cseq: u32) -> Result<Dialog, HeaderFault> {
        let cseq = request.cseq()?.number;
        let (from, to) = (request.from()?, request.to()?);
        // A peer of RFC 2543 may have no Contact (RFC 4475 section 3.4.1); its From is all there is.
        let target = request.contact().map_or(from.raw_uri, |contact| contact.raw_uri).to_owned();
        Ok(Dialog {
            id: DialogId {
                call_id: request.call_id().ok_or(HeaderFault("no Call-ID"))?.to_owned(),
                local_tag: local_tag.to_owned(),
                remote_tag: from.tag().unwrap_or_default().to_owned(),
            },
            state: DialogState::Early,
            initiator: false,
            local: bare_address(&to),
            remote: bare_address(&from),
            local_cseq: first_cseq & 0x3fff_ffff,
            remote_cseq: Some(cseq),
            remote_target: target,
            routes: route_set(request.headers.items(HeaderName::RecordRoute))?,
            invite_sent: None,
            invite_taken: (request.method == Method::Invite).then_some(cseq),
        })
    }

    /// Its identity.
    pub fn id(&self) -> &DialogId {
        &self.id
    }

    /// How far it is.
    pub fn state(&self) -> DialogState {
        self.state
    }

    /// Whether we sent the request that made it.
    pub fn is_initiator(&self) -> bool {
        self.initiator
    }

    /// The peer's Contact URI.
    pub fn remote_target(&self) -> &str {
        &self.remote_target
    }

    /// The route set, in the order it goes into Route.
    pub fn routes(&self) -> &[String] {
        &self.routes
    }

    /// The CSeq of the last request we sent.
    pub fn local_cseq(&self) -> u32 {
        self.local_cseq
    }

    /// Leaves out `by` CSeq numbers: for a dialog whose earlier requests were counted elsewhere.
    pub fn skip_cseq(&mut self, by: u32) {
        self.local_cseq += by;
    }

    /// The CSeq of the last request the peer sent; `None` before the first.
    pub fn remote_cseq(&self) -> Option<u32> {
        self.remote_cseq
    }

    /// The URI of the next hop: the first route, or the remote target. Where it points is the user's decision.
    pub fn next_hop(&self) -> &str {
        match self.routes.first().map(|r| NameAddr::parse(r.as_bytes())) {
            Some(Ok(route)) => route.raw_uri,
            Some(Err(_)) | None => &self.remote_target,
        }
    }

    /// Marks the dialog confirmed: we sent or got a 2xx.
    pub fn confirm(&mut self) {
        if self.state == DialogState::Early {
            self.state = DialogState::Confirmed;
        }
    }

    /// Marks the dialog ended.
    pub fn end(&mut self) {
        self.state = DialogState::Ended;
        self.invite_sent = None;
        self.invite_taken = None;
    }

    /// Whether an INVITE of ours may start: none is pending either way.
    pub fn may_invite(&self) -> bool {
        self.state == DialogState::Confirmed && self.invite_sent.is_none() && self.invite_taken.is_none()
    }

    /// The next request within the dialog (RFC 3261 section 12.2.1.1), CSeq counted up. ACK and CANCEL are not made
    /// here: [`Dialog::ack`], [`super::Endpoint::cancel`]. Add Contact to target-refreshing ones.
    pub fn next_request(&mut self, method: Method) -> Request {
        self.local_cseq += 1;
        match method {
            Method::Invite => self.invite_sent = Some(self.local_cseq),
            Method::Bye => self.state = DialogState::Ended,
            _ => {}
        }
        self.build(method, self.local_cseq)
    }

    /// The ACK for a 2xx to our INVITE with CSeq number `cseq` (RFC 3261 section 13.2.2.4).
    pub fn ack(&self, cseq: u32) -> Request {
        self.build(Method::Ack, cseq)
    }

    fn build(&self, method: Method, cseq: u32) -> Request {
        let first = self.routes.first().and_then(|r| NameAddr::parse(r.as_bytes()).ok());
        // Section 12.2.1.1: a first route without `lr` is a strict router; it becomes the Request-URI.
        let strict = first.filter(|route| route.uri.param("lr").is_none());
        let uri = strict.map_or(self.remote_target.as_str(), |route| route.raw_uri);
        let cseq = format!("{cseq} {method}");
        let mut request = Request::new(method, uri);
        request.headers.reserve(12, 768);
        request.headers.push(HeaderName::MaxForwards, "70");
        for route in self.routes.iter().skip(usize::from(strict.is_some())) {
            request.headers.push(HeaderName::Route, route);
        }
        if strict.is_some() {
            request.headers.push(HeaderName::Route, format!("<{}>", self.remote_target));
        }
        request.headers.push(HeaderName::From, tagged(&self.local, &self.id.local_tag));
        request.headers.push(HeaderName::To, tagged(&self.remote, &self.id.remote_tag));
        request.headers.push(HeaderName::CallId, &self.id.call_id);
        request.headers.push(HeaderName::CSeq, cseq);
        request
    }

    /// Takes a request of the peer within the dialog (not ACK, not CANCEL): checks its CSeq (RFC 3261 section
    /// 12.2.2), glare, and refreshes the target from INVITE and UPDATE.
    ///
    /// # Errors
    /// The request is to be answered with [`DialogFault::response`] and changes nothing else.
    pub fn handle_request(&mut self, request: &Request) -> Result<(), DialogFault> {
        if self.state == DialogState::Ended {
            return Err(DialogFault::Ended);
        }
        let cseq = request.cseq().map_err(|_| DialogFault::OutOfOrder)?.number;
        if self.remote_cseq.is_some_and(|last| cseq <= last) {
            return Err(DialogFault::OutOfOrder);
        }
        self.remote_cseq = Some(cseq);
        if request.method == Method::Invite {
            if self.invite_sent.is_some() {
                return Err(DialogFault::Glare);
            }
            if self.invite_taken.is_some() {
                return Err(DialogFault::InvitePending);
            }
            self.invite_taken = Some(cseq);
        }
        if matches!(request.method, Method::Invite | Method::Update)
            && let Some(contact) = request.contact()
        {
            self.remote_target = contact.raw_uri.to_owned();
        }
        if request.method == Method::Bye {
            self.end();
        }
        Ok(())
    }

    /// Notes our final answer to the peer's INVITE, so that the next one may come.
    pub fn invite_answered(&mut self, status: u16) {
        self.invite_taken = None;
        if (200..300).contains(&status) {
            self.confirm();
        }
    }

    /// Takes a response to a request of ours within the dialog: confirms, refreshes the target from a 2xx to INVITE
    /// or UPDATE (RFC 3261 section 12.2.1.2), and ends on 481 and 408 to any request but a re-INVITE's own fault.
    pub fn handle_response(&mut self, response: &Response) {
        let Ok(cseq) = response.cseq() else { return };
        let invite = cseq.method == "INVITE";
        if response.is_final() && invite && self.invite_sent == Some(cseq.number) {
            self.invite_sent = None;
        }
        match response.status {
            200..300 => {
                if invite {
                    self.confirm();
                }
                if (invite || cseq.method == "UPDATE")
                    && let Some(contact) = response.contact()
                {
                    self.remote_target = contact.raw_uri.to_owned();
                }
            }
            // Section 12.2.1.2: the peer does not know the dialog, or no longer answers.
            408 | 481 => self.end(),
            _ => {}
        }
    }

    /// Rebuilds the route set from the 2xx that confirms an early dialog (RFC 3261 section 13.2.2.4).
    pub fn refresh_routes(&mut self, response: &Response) -> Result<(), HeaderFault> {
        let mut routes = route_set(response.headers.items(HeaderName::RecordRoute))?;
        routes.reverse();
        self.routes = routes;
        Ok(())
    }

    /// How long to wait before trying an INVITE again after 491 (RFC 3261 section 14.1): 2.1–4 s for the end that
    /// made the Call-ID, 0–2 s for the other, in steps of 10 ms.
    pub fn glare_delay(&self, random: &mut Random) -> Duration {
        let steps = if self.initiator { random.random_range(210..=400) } else { random.random_range(0..=200) };
        Duration::from_millis(steps * 10)
    }
}

fn route_set<'a>(items: impl Iterator<Item = &'a [u8]>) -> Result<Vec<String>, HeaderFault> {
    items.map(|item| std::str::from_utf8(item).map(str::to_owned).map_err(|_| HeaderFault("Malformed URI"))).collect()
}

/// An address without its header parameters.
fn bare_address(of: &NameAddr<'_>) -> String {
    address(of.display_name().as_deref(), of.raw_uri, None)
}

fn tagged(address: &str, tag: &str) -> String {
    if tag.is_empty() { address.to_owned() } else { format!("{address};tag={tag}") }
}

/// Whether a URI asks for loose routing, as every Record-Route of RFC 3261 does.
pub fn is_loose(uri: &Uri<'_>) -> bool {
    uri.param("lr").is_some()
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;
    use crate::sip::msg::{Message, parse_datagram};

    fn invite() -> Request {
        let text = "INVITE sip:bob@192.0.2.250 SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.9;branch=z9hG4bK1\r\n\
            Record-Route: <sip:p2.example.com;lr>, <sip:p1.example.com;lr>\r\n\
            From: \"A\" <sip:alice@example.com>;tag=a1\r\nTo: <sip:bob@example.com>\r\nCall-ID: c1\r\n\
            CSeq: 7 INVITE\r\nContact: <sip:alice@198.51.100.9:5070>\r\n\r\n";
        match parse_datagram(text.as_bytes()) {
            Ok(Message::Request(request)) => request,
            other => panic!("{other:?}"),
        }
    }

    fn answer(status: u16, contact: Option<&str>) -> Response {
        let mut response = Response::for_request(&invite(), status, "");
        response.set_to_tag("b1");
        if let Some(contact) = contact {
            response.headers.push(HeaderName::Contact, contact);
        }
        response
    }

    fn within(method: &str, cseq: u32) -> Request {
        let mut request = Request::new(Method::parse(method.as_bytes()).expect("a method"), "sip:192.0.2.250");
        request.headers.push(HeaderName::CSeq, format!("{cseq} {method}"));
        request.headers.push(HeaderName::Contact, "<sip:alice@198.51.100.77>");
        request
    }

    fn text(request: &Request) -> String {
        String::from_utf8(request.to_bytes().to_vec()).expect("text")
    }

    #[test]
    fn both_sides_route_along_the_record_in_their_own_direction() {
        let mut uac = Dialog::uac(&invite(), &answer(200, Some("<sip:bob@192.0.2.7>"))).expect("a dialog");
        assert_eq!(
            text(&uac.next_request(Method::Bye)),
            "BYE sip:bob@192.0.2.7 SIP/2.0\r\nMax-Forwards: 70\r\nRoute: <sip:p1.example.com;lr>\r\n\
             Route: <sip:p2.example.com;lr>\r\nFrom: \"A\" <sip:alice@example.com>;tag=a1\r\n\
             To: <sip:bob@example.com>;tag=b1\r\nCall-ID: c1\r\nCSeq: 8 BYE\r\nContent-Length: 0\r\n\r\n"
        );
        assert_eq!(uac.next_hop(), "sip:p1.example.com;lr");
        let mut uas = Dialog::uas(&invite(), "b1", 100).expect("a dialog");
        let info = text(&uas.next_request(Method::Info));
        assert!(info.starts_with("INFO sip:alice@198.51.100.9:5070 SIP/2.0\r\n"), "{info}");
        assert!(info.contains("Route: <sip:p2.example.com;lr>\r\nRoute: <sip:p1.example.com;lr>\r\n"), "{info}");
        assert!(info.contains("From: <sip:bob@example.com>;tag=b1\r\nTo: \"A\" <sip:alice@example.com>;tag=a1\r\n"));
        assert!(info.contains("CSeq: 101 INFO\r\n"), "{info}");
        assert_eq!(uac.id().call_id, uas.id().call_id);
        assert_eq!(uac.id().local_tag, uas.id().remote_tag);
    }

    #[test]
    fn a_strict_router_becomes_the_request_uri() {
        let mut response = answer(200, Some("<sip:bob@192.0.2.7>"));
        response.headers.set(HeaderName::RecordRoute, "<sip:p2.example.com;lr>, <sip:strict.example.com>");
        let mut dialog = Dialog::uac(&invite(), &response).expect("a dialog");
        let bye = text(&dialog.next_request(Method::Bye));
        assert!(bye.starts_with("BYE sip:strict.example.com SIP/2.0\r\n"), "{bye}");
        assert!(bye.contains("Route: <sip:p2.example.com;lr>\r\nRoute: <sip:bob@192.0.2.7>\r\n"), "{bye}");
    }

    #[test]
    fn an_early_dialog_is_confirmed_by_its_2xx_which_may_move_the_target() {
        let mut dialog = Dialog::uac(&invite(), &answer(183, None)).expect("a dialog");
        assert_eq!((dialog.state(), dialog.remote_target()), (DialogState::Early, "sip:bob@192.0.2.250"));
        assert!(!dialog.may_invite());
        dialog.handle_response(&answer(200, Some("<sip:bob@192.0.2.8>")));
        assert_eq!((dialog.state(), dialog.remote_target()), (DialogState::Confirmed, "sip:bob@192.0.2.8"));
        assert!(dialog.may_invite());
        assert!(Dialog::uac(&invite(), &answer(200, None)).is_err(), "a 2xx needs a Contact");
        assert!(Dialog::uac(&invite(), &Response::for_request(&invite(), 180, "")).is_err(), "and a tag");
    }

    #[test]
    fn requests_count_up_and_old_ones_are_refused() {
        let mut random = Random::seed_from_u64(1);
        let mut dialog = Dialog::uas(&invite(), "b1", 1).expect("a dialog");
        dialog.invite_answered(200);
        assert_eq!(dialog.handle_request(&within("INFO", 8)), Ok(()));
        assert_eq!(dialog.handle_request(&within("INFO", 12)), Ok(()), "gaps are allowed");
        for old in [12, 8] {
            let fault = dialog.handle_request(&within("INFO", old)).expect_err("out of order");
            assert_eq!(fault.response(&within("INFO", old), &mut random).status, 500);
        }
        assert_eq!(dialog.remote_target(), "sip:alice@198.51.100.9:5070", "INFO refreshes nothing");
        assert_eq!(dialog.handle_request(&within("UPDATE", 13)), Ok(()));
        assert_eq!(dialog.remote_target(), "sip:alice@198.51.100.77");
        assert_eq!(dialog.handle_request(&within("BYE", 14)), Ok(()));
        assert_eq!(dialog.handle_request(&within("INFO", 15)), Err(DialogFault::Ended));
        assert_eq!(DialogFault::Ended.response(&within("INFO", 15), &mut random).status, 481);
    }

    #[test]
    fn glare_gets_491_and_a_second_invite_500_with_retry_after() {
        let mut random = Random::seed_from_u64(1);
        let mut dialog = Dialog::uas(&invite(), "b1", 1).expect("a dialog");
        let fault = dialog.handle_request(&within("INVITE", 8)).expect_err("the first is not answered");
        let refusal = fault.response(&within("INVITE", 8), &mut random);
        assert_eq!((refusal.status, refusal.headers.count(HeaderName::RetryAfter)), (500, 1));
        dialog.invite_answered(200);
        let ours = dialog.next_request(Method::Invite);
        assert!(!dialog.may_invite());
        assert_eq!(dialog.handle_request(&within("INVITE", 9)), Err(DialogFault::Glare));
        assert_eq!(DialogFault::Glare.response(&within("INVITE", 9), &mut random).status, 491);
        let mut answer = Response::for_request(&ours, 491, "");
        answer.headers.push(HeaderName::Contact, "<sip:elsewhere>");
        dialog.handle_response(&answer);
        assert!(dialog.may_invite());
        assert_eq!(dialog.remote_target(), "sip:alice@198.51.100.9:5070");
        assert_eq!(dialog.handle_request(&within("INVITE", 10)), Ok(()));
        dialog.invite_answered(488);
        assert!(dialog.may_invite() && dialog.state() == DialogState::Confirmed);
    }

    #[test]
    fn the_owner_of_the_call_id_waits_longer_after_glare() {
        let mut random = Random::seed_from_u64(1);
        let owner = Dialog::uac(&invite(), &answer(200, Some("<sip:b>"))).expect("a dialog");
        let other = Dialog::uas(&invite(), "b1", 1).expect("a dialog");
        for _ in 0..200 {
            assert!((2100..=4000).contains(&owner.glare_delay(&mut random).as_millis()));
            assert!(other.glare_delay(&mut random).as_millis() <= 2000);
        }
    }

    #[test]
    fn a_peer_that_lost_the_dialog_ends_it() {
        for status in [408, 481] {
            let mut dialog = Dialog::uac(&invite(), &answer(200, Some("<sip:b>"))).expect("a dialog");
            let info = dialog.next_request(Method::Info);
            dialog.handle_response(&Response::for_request(&info, status, ""));
            assert_eq!(dialog.state(), DialogState::Ended);
        }
    }

    #[test]
    fn ids_are_found_from_requests_and_responses() {
        let dialog = Dialog::uac(&invite(), &answer(180, None)).expect("a dialog");
        assert_eq!(DialogId::of_response(&answer(200, None)).as_ref(), Some(dialog.id()));
        assert_eq!(DialogId::of_request(&invite()), None);
    }
}
