//! What a target says of another try: of itself, on other terms (422), or of another number (3xx). Its answer goes in;
//! the next INVITE, or the caller's refusal, comes out. A number is routed like any other; no host it names counts for
//! anything (threats R16).

use std::time::Instant;

use super::call::Phase;
use super::core::Core;
use super::crossing;
use super::refused::Refused;
use super::setup::{Attempt, SettingUp};
use super::shared::Shared;
use crate::config::Redirect;
use crate::obs::event::EndCause;
use crate::sip::Response;
use crate::sip::msg::HeaderName;
use crate::sip::msg::header::NameAddr;

/// How often a call follows a redirection.
const MOST_REDIRECTS: u8 = 5;

/// How many numbers of a redirection are looked at.
const MOST_CONTACTS: usize = 8;

impl SettingUp {
    /// The target names another number: its trunk says whether that is called, told the caller, or neither.
    pub(super) fn handle_redirect(
        mut self,
        now: Instant,
        core: &mut Core,
        s: &mut Shared,
        response: &Response,
    ) -> Phase {
        let config = s.config.clone();
        let from = core.trunk(core.caller_leg);
        let policy = config.trunks[core.trunk(core.caller_leg.other()).0].methods.redirect;
        let contacts = response.headers.items(HeaderName::Contact).take(MOST_CONTACTS);
        let mut named = contacts.filter_map(|contact| crossing::number(&NameAddr::parse(contact).ok()?.uri));
        match policy {
            Redirect::Follow if self.caller.redirects < MOST_REDIRECTS => {
                let way = |user: String| {
                    let targets = super::trunks::targets(now, s, from, &user).ok()?;
                    let numbers = super::routing::numbers(&config, from, &user, &core.facts.caller)?;
                    Some((targets, numbers))
                };
                if let Some((targets, (user, _))) = named.find_map(way) {
                    core.facts.user = user;
                    self.caller.redirects += 1;
                    self.rest = targets.into();
                    return self.try_next(now, core, s, 480);
                }
            }
            Redirect::Pass => {
                if let Some(user) = named.next() {
                    let contact = format!("<{}>", crossing::uri(s.listener(from), &user, s.listener(from).advertise));
                    let moved = Refused::new(302).with(HeaderName::Contact, contact);
                    return self.refuse(now, core, s, &moved, EndCause::Rejected);
                }
            }
            Redirect::Follow | Redirect::Refuse => {}
        }
        self.refuse(now, core, s, &Refused::new(480), EndCause::Rejected)
    }

    /// The target wants a longer session: it is asked again with what it wants (RFC 4028 section 7.3).
    pub(super) fn ask_for_longer(mut self, now: Instant, core: &Core, s: &mut Shared) -> Phase {
        let Attempt { invite, timer, .. } = &mut self.attempt;
        for name in [HeaderName::SessionExpires, HeaderName::MinSe] {
            invite.headers.remove(name);
        }
        let supported = invite.headers.text(HeaderName::Supported).unwrap_or_default().to_owned();
        timer.write_request(&mut invite.headers);
        invite.headers.set(HeaderName::Supported, supported);
        self.ask_again(now, core, s)
    }

    /// Asks the same target once more, by the INVITE as it stands now: of the same call, with the next CSeq.
    pub(super) fn ask_again(mut self, now: Instant, core: &Core, s: &mut Shared) -> Phase {
        for fork in self.attempt.forks.drain(..) {
            let mut fork = fork;
            fork.drop_change(now, s);
        }
        let attempt = &mut self.attempt;
        attempt.again += 1;
        let cseq = attempt.invite.cseq().map(|cseq| cseq.number).unwrap_or_default() + 1;
        attempt.invite.headers.set(HeaderName::CSeq, format!("{cseq} INVITE"));
        attempt.client = s.send_invite(now, core.id, attempt.invite.clone(), attempt.dest);
        Phase::SettingUp(Box::new(self))
    }
}
