//! `[canary]`: calls that a node places to itself on a schedule.

use std::time::Duration;

use super::tree::{Table, Value};
use crate::config::canary::TEST_CARDS;
use crate::config::{Canary, CanaryForm, CanaryGuard};

pub(super) const KEYS: &[&str] = &["every_s", "card", "forms", "guards"];

/// What the trunks of a canary are called; no other trunk or listener may begin so.
pub(super) const PREFIX: &str = "canary-";

/// `names`: those of all listeners and trunks, each with the key it stands under.
pub(super) fn read(root: &Table<'_>) -> Option<Option<Canary>> {
    let table = root.child("canary", "canary");
    if !table.is_there() {
        return Some(None);
    }
    let usual = Canary::default();
    let every = table.get("every_s").map_or(Some(usual.every), |v| v.integer(60..=604_800).map(Duration::from_secs));
    let card = match table.get("card") {
        None => Some(usual.card),
        Some(v) => v.parsed(|text| {
            TEST_CARDS.into_iter().find(|card| *card == text).ok_or_else(|| {
                format!("is none of the cards published for tests, of which {:?} is the usual one", TEST_CARDS[0])
            })
        }),
    };
    let forms = [("tone", CanaryForm::Tone), ("event", CanaryForm::Event), ("info", CanaryForm::Info)];
    let forms = some(&table, "forms", usual.forms, |v| v.one_of(&forms));
    let guards = [("held", CanaryGuard::Held), ("auto", CanaryGuard::Auto)];
    let guards = some(&table, "guards", usual.guards, |v| v.one_of(&guards));
    Some(Some(Canary { every: every?, card: card?, forms: forms?, guards: guards? }))
}

fn some<T>(table: &Table<'_>, key: &str, usual: Vec<T>, read: impl Fn(&Value<'_>) -> Option<T>) -> Option<Vec<T>> {
    let Some(v) = table.get(key) else { return Some(usual) };
    let all = v.each(read)?;
    if all.is_empty() {
        v.wrong("is empty; at least one is wanted");
        return None;
    }
    Some(all)
}
