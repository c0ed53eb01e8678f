//! Which calls a key names. Every call is filed under its SIP Call-IDs, the agent's extension, the caller's number, its
//! `User-to-User` forms and its reference, and filed anew when one of them changes; a search looks at the calls of its
//! rarest key and at no other. Keys and sessions go in; sessions come out, oldest first. It holds nothing of what a
//! call does.

use std::collections::{BTreeSet, HashMap};

use super::call::Call;
use super::{Find, uui};
use crate::base::ids::{Leg, SessionId};

/// What a call is found by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Key {
    SipCallId(String),
    Agent(String),
    Caller(String),
    UserToUser(String),
    Reference(String),
}

/// The calls of each key, by their sessions: these count up.
#[derive(Debug, Default)]
pub(super) struct Index {
    of: HashMap<Key, BTreeSet<SessionId>>,
}

impl Index {
    pub(super) fn file(&mut self, session: SessionId, keys: &[Key]) {
        for key in keys {
            self.of.entry(key.clone()).or_default().insert(session);
        }
    }

    pub(super) fn remove(&mut self, session: SessionId, keys: &[Key]) {
        for key in keys {
            if let Some(sessions) = self.of.get_mut(key) {
                sessions.remove(&session);
                if sessions.is_empty() {
                    self.of.remove(key);
                }
            }
        }
    }

    /// The sessions that every key names, oldest first; `None` when no key is given.
    pub(super) fn named(&self, keys: &[Key]) -> Option<impl Iterator<Item = SessionId>> {
        let nobody = BTreeSet::new();
        let mut sets: Vec<_> = keys.iter().map(|key| self.of.get(key)).collect();
        sets.sort_by_key(|set| set.map_or(0, BTreeSet::len));
        let (rarest, others) = sets.split_first()?;
        let of_all = |session: &&SessionId| others.iter().all(|set| set.is_some_and(|set| set.contains(session)));
        let named: Vec<SessionId> = rarest.unwrap_or(&nobody).iter().filter(of_all).copied().collect();
        Some(named.into_iter())
    }

    /// Keys that name a call.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.of.len()
    }
}

impl Find {
    /// The keys asked for.
    pub(super) fn keys(&self) -> Vec<Key> {
        let Find { id: _, sip_call_id, agent, caller, user_to_user, reference } = self;
        [
            sip_call_id.clone().map(Key::SipCallId),
            agent.as_deref().map(|text| Key::Agent(number(text))),
            caller.as_deref().map(|text| Key::Caller(number(text))),
            user_to_user.as_deref().map(|text| Key::UserToUser(uui::asked(text))),
            reference.clone().map(Key::Reference),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

impl Call {
    /// Everything it is found by now.
    pub(super) fn keys(&self) -> Vec<Key> {
        let core = &self.core;
        let mut keys: Vec<Key> = core.call_ids.iter().flatten().cloned().map(Key::SipCallId).collect();
        keys.push(Key::Agent(number(core.far_end(Leg::Agent))));
        keys.push(Key::Caller(number(core.far_end(Leg::Customer))));
        keys.extend(core.facts.user_to_user.iter().cloned().map(Key::UserToUser));
        keys.extend(core.facts.reference.iter().cloned().map(Key::Reference));
        keys
    }
}

/// A number without `+` and what people put between its digits (and what a query makes of a `+`); a name as it is.
fn number(text: &str) -> String {
    let digits: String = text.chars().filter(|c| !matches!(c, '+' | ' ' | '-' | '.' | '(' | ')')).collect();
    let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    if is_number { digits } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(text: &str) -> Key {
        Key::Agent(text.into())
    }

    #[test]
    fn a_search_gives_who_has_every_key_oldest_first() {
        let mut index = Index::default();
        for session in (1..=100).rev() {
            index.file(SessionId(session), &[agent("queue"), Key::Caller((session % 10).to_string())]);
        }
        let named = |keys: &[Key]| index.named(keys).map(|found| found.map(|SessionId(n)| n).collect::<Vec<_>>());
        let caller = |text: &str| Key::Caller(text.into());
        assert_eq!(named(&[agent("queue"), caller("7")]).expect("keys")[..3], [7, 17, 27]);
        assert_eq!(named(&[caller("7"), caller("8")]), Some(vec![]));
        assert_eq!(named(&[agent("nobody"), caller("7")]), Some(vec![]));
        assert_eq!(named(&[]), None);
    }

    #[test]
    fn nothing_is_left_of_who_is_removed() {
        let mut index = Index::default();
        index.file(SessionId(1), &[agent("1"), agent("2")]);
        index.file(SessionId(2), &[agent("2")]);
        index.remove(SessionId(1), &[agent("1"), agent("2")]);
        assert_eq!(index.len(), 1);
        index.remove(SessionId(2), &[agent("2")]);
        assert_eq!(index.len(), 0);
    }

    #[test]
    fn numbers_are_the_same_however_they_are_written() {
        for text in ["+49 30 1234-5", " 49301 2345", "49301234.5", "(49)3012345"] {
            assert_eq!(number(text), "493012345", "{text}");
        }
        assert_eq!((number("j.smith"), number("+"), number("")), ("j.smith".into(), "+".into(), String::new()));
    }
}
