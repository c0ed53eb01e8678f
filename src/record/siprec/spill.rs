//! What is sealed into a spill, so that it can be forwarded as it would have been sent live: whom it is for, and what that
//! recorder is told of the call. Texts of peers go in; those that may be a card number stay out. It holds no digit that was
//! keyed.

use serde::{Deserialize, Serialize};

use super::metadata::Call;
use crate::obs::redact::redact;

/// Bytes of texts that are kept at most: a chunk has to hold them beside the rest.
const ROOM: usize = 8_192;

/// What a spill is, to the recorder it stands in for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spill {
    /// Name of the recorder.
    pub recorder: String,
    /// What it is told of the call, as it was when the spill began.
    pub told: Call,
    /// Further headers of its INVITE.
    #[serde(default)]
    pub headers: Vec<(String, String)>,
}

impl Spill {
    /// A spill for `recorder`. What may be a card number, or is too much, is left out: it must not get into a sealed file.
    pub fn new(recorder: &str, told: &Call, headers: &[(String, String)]) -> Self {
        let mut room = ROOM;
        let mut keep = |text: &str| {
            let fits = text.len() <= room && !is_card(text);
            room -= if fits { text.len() } else { 0 };
            fits
        };
        let headers = headers.iter().filter(|(_, value)| keep(value)).cloned().collect();
        let mut told = told.clone();
        told.extensions.retain(|(_, value)| keep(value));
        told.user_to_user = told.user_to_user.filter(|value| keep(value));
        Self { recorder: recorder.to_owned(), told, headers }
    }

    /// Every text of peers in it but numbers, which the recording's description has too.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        let Call { extensions, user_to_user, participants, .. } = &self.told;
        let pairs = self.headers.iter().chain(extensions).map(|(_, value)| value.as_str());
        pairs.chain(user_to_user.as_deref()).chain(participants.iter().map(|one| one.user.as_str()))
    }
}

fn is_card(text: &str) -> bool {
    redact(&mut text.as_bytes().to_vec()) > 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::Leg;
    use crate::base::time::WallMs;
    use crate::record::siprec::metadata::{Participant, Uuid};

    fn told() -> Call {
        let participant = |id, leg, user: &str| {
            let (user, host) = (user.to_owned(), "n".to_owned());
            Participant { id: Uuid(id), leg, user, host, joined: WallMs(1_000), left: None }
        };
        Call {
            session: Uuid(u128::MAX - 1),
            streams: [Uuid(2), Uuid(3)],
            id: "call_1".to_owned(),
            call_ids: [Some("a@x".to_owned()), None],
            codecs: [Some("PCMU".to_owned()), None],
            started: WallMs(1_000),
            participants: vec![participant(4, Leg::Customer, "+14155550100"), participant(5, Leg::Agent, "5551000")],
            held: [false; 2],
            caller: Leg::Customer,
            extensions: vec![("ref".to_owned(), "7".to_owned())],
            namespace: "urn:example:calls".to_owned(),
            user_to_user: Some("00FA;encoding=hex".to_owned()),
            part: None,
        }
    }

    #[test]
    fn it_is_read_back_as_it_was_written() {
        let headers = [("X-Ref".to_owned(), "a".to_owned())];
        let spill = Spill::new("quality", &told(), &headers);
        assert_eq!((&spill.told, spill.headers.as_slice()), (&told(), &headers[..]));
        let text = serde_json::to_string(&spill).expect("JSON");
        assert_eq!(serde_json::from_str::<Spill>(&text).expect("the same"), spill);
    }

    #[test]
    fn card_numbers_and_what_is_too_much_stay_out() {
        let mut told = told();
        told.extensions.push(("note".to_owned(), "paid with 4242424242424242".to_owned()));
        told.user_to_user = Some("4111111111111111".to_owned());
        told.extensions.push(("long".to_owned(), "x".repeat(ROOM + 1)));
        let headers = [("X-Card".to_owned(), "5555 5555 5555 4444".to_owned()), ("X-Ref".to_owned(), "b".to_owned())];
        let spill = Spill::new("quality", &told, &headers);
        assert_eq!(spill.headers, [("X-Ref".to_owned(), "b".to_owned())]);
        assert_eq!(spill.told.extensions, [("ref".to_owned(), "7".to_owned())]);
        assert_eq!(spill.told.user_to_user, None);
    }
}
