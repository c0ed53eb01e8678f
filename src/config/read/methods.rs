//! The keys of `[[trunk]]` that speak of SIP extensions.

use std::time::Duration;

use super::tree::Table;
use super::trunk::or;
use super::{rules, value};
use crate::config::{Extension, Methods, Redirect, Refer};

/// What the trunk says; `None` when any of it is wrong.
pub(super) fn read(table: &Table<'_>) -> Option<Methods> {
    let usual = Methods::default();
    let extension = |key: &str, default| {
        let words = [("off", Extension::Off), ("supported", Extension::Supported), ("required", Extension::Required)];
        or(table, key, default, |v| v.one_of(&words))
    };
    // RFC 4028 section 5: no session interval is shorter than 90 s.
    let seconds =
        |key: &str, default: Duration| or(table, key, default, |v| v.integer(90..=86_400).map(Duration::from_secs));
    let expires = seconds("session_expires_s", usual.session_expires);
    let min = seconds("session_min_s", usual.session_min);
    if let (Some(expires), Some(min)) = (expires, min)
        && min > expires
    {
        let key = if table.has("session_min_s") { "session_min_s" } else { "session_expires_s" };
        let (expires, min) = (expires.as_secs(), min.as_secs());
        table.fault(
            key,
            format!("the shortest interval taken ({min} s) is longer than the one asked for ({expires} s)"),
        );
    }
    let session_timer = extension("session_timer", usual.session_timer);
    if session_timer == Some(Extension::Off) {
        for key in ["session_expires_s", "session_min_s"].into_iter().filter(|key| table.has(key)) {
            table.fault(key, "is not read with session_timer = \"off\"");
        }
    }
    let types = |key: &str| or(table, key, Vec::new(), |v| v.each(|item| item.parsed(value::content_type)));
    Some(Methods {
        reliable: extension("reliable", usual.reliable)?,
        session_timer: session_timer?,
        session_expires: expires?,
        session_min: min?,
        refer: or(table, "refer", usual.refer, |v| {
            v.one_of(&[("refuse", Refer::Refuse), ("terminate", Refer::Terminate), ("pass", Refer::Pass)])
        })?,
        redirect: or(table, "redirect", usual.redirect, |v| {
            v.one_of(&[("refuse", Redirect::Refuse), ("follow", Redirect::Follow), ("pass", Redirect::Pass)])
        })?,
        tel_uris: or(table, "tel_uris", usual.tel_uris, |v| v.boolean())?,
        pass_info: types("pass_info")?,
        pass_message: types("pass_message")?,
        headers: rules::headers(table)?,
        replaces: or(table, "replaces", usual.replaces, |v| v.boolean())?,
    })
}
