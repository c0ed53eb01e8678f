//! `[[route]]`.

use super::tree::{Table, Value};
use super::{rules, value};
use crate::config::Numbers;

pub(super) const KEYS: &[&str] =
    &["from", "prefix", "to", "match", "number", "strip", "add", "caller_match", "caller_number"];

/// A route as read, by trunk names; `None` where the file is wrong.
pub(in crate::config) struct Draft<'a> {
    pub(in crate::config) table: Table<'a>,
    pub(in crate::config) from: Option<&'a str>,
    pub(in crate::config) prefix: Option<String>,
    pub(in crate::config) to: Vec<(Value<'a>, &'a str)>,
    pub(in crate::config) numbers: Option<Numbers>,
}

pub(super) fn read(table: Table<'_>) -> Draft<'_> {
    let from = table.require("from", "\"carrier\"").and_then(|v| v.string());
    let prefix = match table.get("prefix") {
        Some(v) => v.parsed(value::prefix),
        None => Some(String::new()),
    };
    let list = table.require("to", "[\"pbx\"]");
    let items = list.as_ref().and_then(Value::list).unwrap_or_default();
    if let Some(list) = list
        && items.is_empty()
        && list.list().is_some()
    {
        list.wrong("is empty; at least one trunk is wanted");
    }
    let to = items.into_iter().filter_map(|item| item.string().map(|name| (item.clone(), name))).collect();
    Draft { numbers: rules::numbers(&table), table, from, prefix, to }
}
