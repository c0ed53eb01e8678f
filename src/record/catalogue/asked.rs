//! What somebody asks of the catalogue in words (a query of the API, options of a command), turned into a [`Query`]. One
//! reading for both, so that they mean the same.

use super::{Page, Query, State};
use crate::base::ids::RecordingId;
use crate::base::time::WallMs;

const DAY_MS: u64 = 24 * 3600 * 1000;

/// The conditions as they were written; those that are given must all hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asked {
    /// Id of a call.
    pub call: Option<String>,
    /// SIP Call-ID of one of its legs.
    pub sip_call_id: Option<String>,
    /// Name of a trunk.
    pub trunk: Option<String>,
    /// Caller, called or agent number, or the end of it.
    pub number: Option<String>,
    /// Labels, each `name=value`.
    pub labels: Vec<String>,
    /// A day in UTC: `2026-11-22`.
    pub day: Option<String>,
    /// A time at or after which it began.
    pub from: Option<String>,
    /// A time before which it began.
    pub until: Option<String>,
    /// A state, or `held`.
    pub state: Option<String>,
    /// Where the page before ended ([`Page::cursor`]).
    pub after: Option<String>,
    /// Most recordings of a page.
    pub limit: Option<usize>,
}

/// A condition that cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {why}")]
pub struct Misunderstood {
    /// Which.
    pub field: &'static str,
    /// Why; never its value.
    pub why: String,
}

fn bad(field: &'static str, why: &str) -> Misunderstood {
    Misunderstood { field, why: why.to_owned() }
}

impl Asked {
    /// Names of the conditions that are given: their values may be numbers of people.
    pub fn conditions(&self) -> Vec<&'static str> {
        [
            ("call", self.call.is_some()),
            ("sip_call_id", self.sip_call_id.is_some()),
            ("trunk", self.trunk.is_some()),
            ("number", self.number.is_some()),
            ("label", !self.labels.is_empty()),
            ("day", self.day.is_some()),
            ("from", self.from.is_some()),
            ("until", self.until.is_some()),
            ("state", self.state.is_some()),
        ]
        .into_iter()
        .filter_map(|(name, given)| given.then_some(name))
        .collect()
    }

    /// The catalogue's question.
    ///
    /// # Errors
    /// Of the first condition that cannot be understood.
    pub fn query(self) -> Result<Query, Misunderstood> {
        let limit = self.limit.unwrap_or(Query::USUAL);
        if !(1..=Query::MOST).contains(&limit) {
            return Err(bad("limit", &format!("limit must be 1 to {}", Query::MOST)));
        }
        let call = self.call.map(|call| call.parse().map_err(|_| bad("call", "no id of a call"))).transpose()?;
        let label = |label: String| {
            let (name, value) = label.split_once('=').ok_or_else(|| bad("label", "a label is name=value"))?;
            Ok((name.to_owned(), value.to_owned()))
        };
        let time = |field, text: Option<String>| {
            let read = |text: String| {
                instant(&text).ok_or_else(|| bad(field, "a time is 2026-11-22T14:00:00Z, or milliseconds since 1970"))
            };
            text.map(read).transpose()
        };
        let (mut from, mut until) = (time("from", self.from)?, time("until", self.until)?);
        if let Some(day) = self.day {
            if from.is_some() || until.is_some() {
                return Err(bad("day", "day stands for from and until; give it alone"));
            }
            let begins = instant(&day)
                .filter(|_| day.len() == 10 && day.contains('-'))
                .ok_or_else(|| bad("day", "a day is 2026-11-22"))?;
            (from, until) = (Some(begins), Some(WallMs(begins.0 + DAY_MS)));
        }
        let (states, held) = match self.state.as_deref() {
            None => (Vec::new(), None),
            Some("held") => (Vec::new(), Some(true)),
            Some(word) => (vec![State::of(word).ok_or_else(|| bad("state", "no such state"))?], None),
        };
        let after = self.after.map(|after| cursor(&after).ok_or_else(|| bad("after", "not the `next` of a page")));
        Ok(Query {
            call,
            sip_call_id: self.sip_call_id,
            trunk: self.trunk,
            number: self.number,
            labels: self.labels.into_iter().map(label).collect::<Result<_, _>>()?,
            from,
            until,
            states,
            held,
            after: after.transpose()?,
            limit,
            ..Query::default()
        })
    }
}

impl Page {
    /// Where the next page begins, as [`Asked::after`] takes it; nothing when this was the last.
    pub fn cursor(&self) -> Option<String> {
        self.next.map(|(at, id)| format!("{}.{id}", at.0))
    }
}

fn cursor(text: &str) -> Option<(WallMs, RecordingId)> {
    let (at, id) = text.split_once('.')?;
    Some((WallMs(at.parse().ok()?), id.parse().ok()?))
}

/// A time: milliseconds, or RFC 3339 in UTC with seconds, or a day.
fn instant(text: &str) -> Option<WallMs> {
    if text.len() > 8 && text.bytes().all(|b| b.is_ascii_digit()) {
        return text.parse().ok().map(WallMs);
    }
    let (date, time) = match text.split_once('T') {
        Some((date, time)) => (date, time.strip_suffix('Z')?),
        None => (text, "00:00:00"),
    };
    let numbers = |text: &str, by: char| -> Option<Vec<u64>> {
        text.split(by)
            .map(|part| if part.bytes().all(|b| b.is_ascii_digit()) { part.parse().ok() } else { None })
            .collect()
    };
    let (clock, ms) = time.split_once('.').unwrap_or((time, "0"));
    let ms: u64 = format!("{ms:0<3}").get(..3)?.parse().ok()?;
    let ([year, month, day], [hour, minute, second]) =
        (<[u64; 3]>::try_from(numbers(date, '-')?).ok()?, <[u64; 3]>::try_from(numbers(clock, ':')?).ok()?);
    let fine = (1970..=9999).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    if !fine || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    // Days since 0000-03-01, as `WallMs::date` counts them back.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    let days = days.checked_sub(719_468)?;
    Some(WallMs((days * 86_400 + hour * 3_600 + minute * 60 + second) * 1_000 + ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_they_are_written() {
        for ms in [0, 951_827_696_789, 1_709_251_199_999, 1_798_761_599_000] {
            assert_eq!(instant(&WallMs(ms).rfc3339()), Some(WallMs(ms)));
        }
        assert_eq!(instant("2026-11-22"), instant("2026-11-22T00:00:00Z"));
        assert_eq!(instant("1795327256000"), Some(WallMs(1_795_327_256_000)));
        for bad in ["", "x", "2026-13-01", "2026-11-22T10:00:00", "2026-11-22T25:00:00Z", "1969-12-31", "-1", "+5"] {
            assert_eq!(instant(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_day_is_from_its_midnight_to_the_next() {
        let asked = |day: &str| Asked { day: Some(day.into()), ..Asked::default() };
        let query = asked("2026-11-22").query().expect("a query");
        assert_eq!((query.from, query.until), (instant("2026-11-22"), instant("2026-11-23")));
        assert_eq!(asked("2026-11-22").conditions(), ["day"]);
        for wrong in ["22.11.2026", "2026-11-22T10:00:00Z", "1795327256", ""] {
            assert_eq!(asked(wrong).query().expect_err(wrong).field, "day");
        }
        let both = Asked { from: Some("2026-11-01".into()), ..asked("2026-11-22") };
        assert_eq!(both.query().expect_err("both").field, "day");
    }
}
