//! A free text as it may stand in the log: one line, bounded, and without anything that can be a card number.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::obs::redact::redact;

/// The most characters of a text.
const LONGEST: usize = 200;

/// A text that is safe to keep. Made from whatever somebody wrote: control characters become spaces, what is beyond 200
/// characters is left out, and runs that can be card numbers are blanked.
#[derive(Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Text(String);

impl Text {
    /// The safe form of `text`.
    pub fn new(text: &str) -> Self {
        let kept: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST).collect();
        // The redaction changes ASCII digits into another ASCII letter: what was UTF-8 stays so.
        let mut bytes = kept.trim().as_bytes().to_vec();
        redact(&mut bytes);
        Self(String::from_utf8(bytes).unwrap_or_default())
    }

    /// What somebody says something is for; nothing when that is fewer than 3 or more than 200 characters.
    pub fn said(text: &str) -> Option<Self> {
        let kept = Self::new(text);
        let fits = |text: &str| Self::SAID.contains(&text.chars().count());
        (fits(text.trim()) && fits(kept.as_str())).then_some(kept)
    }

    /// The fewest and most characters of a purpose or a reason.
    pub const SAID: std::ops::RangeInclusive<usize> = 3..=LONGEST;

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self::new(&text)
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_one_short_line_without_a_card_number() {
        assert_eq!(Text::new(" complaint\r\nof 4242 4242 4242 4242 ").as_str(), "complaint  of xxxx xxxx xxxx xxxx");
        assert_eq!(Text::new(&"ä".repeat(900)).as_str().chars().count(), LONGEST);
        assert_eq!(Text::new("ticket 4711").as_str(), "ticket 4711");
        assert_eq!(Text::said(" case 7 ").map(|text| text.as_str().to_owned()).as_deref(), Some("case 7"));
        assert!(Text::said("no").is_none() && Text::said("  x  ").is_none() && Text::said(&"y".repeat(201)).is_none());
    }
}
