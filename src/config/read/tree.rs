//! The TOML tree with places: tables and values that know their dotted key and line, note faults as they are asked,
//! and never stop at the first one.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::config::hint::hint;
use crate::config::load::Places;
use crate::config::{Fault, SCHEMA};

/// How sure a fault is once part of the file could not be parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::config) enum Sure {
    /// It stands in its own line, whatever the rest says.
    Here,
    /// It depends on other lines: something is missing, or does not fit.
    Elsewhere,
}

/// Collects faults and places while the sections are read.
pub(in crate::config) struct Reader<'a> {
    file: &'a str,
    /// Where lines end.
    ends: Vec<usize>,
    faults: RefCell<Vec<(Sure, Fault)>>,
    lines: RefCell<BTreeMap<String, usize>>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(file: &'a str, text: &'a str) -> Self {
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at).collect();
        Self { file, ends, faults: RefCell::default(), lines: RefCell::default() }
    }

    /// The line, from 1, of a byte offset.
    pub(super) fn line_at(&self, offset: usize) -> usize {
        self.ends.partition_point(|end| *end < offset) + 1
    }

    fn note(&self, sure: Sure, line: usize, key: &str, reason: String) {
        let fault = Fault { file: self.file.to_owned(), line, key: key.to_owned(), reason };
        self.faults.borrow_mut().push((sure, fault));
    }

    /// The faults (only the sure ones above `broken`, the line of the first syntax error, if there is one) and the
    /// places.
    pub(super) fn finish(self, broken: Option<usize>) -> (Vec<Fault>, Places) {
        let sure = |(sure, fault): &(Sure, Fault)| broken.is_none_or(|line| *sure == Sure::Here && fault.line < line);
        let faults = self.faults.into_inner().into_iter().filter(sure).map(|(_, fault)| fault).collect();
        (faults, Places { file: self.file.to_owned(), lines: self.lines.into_inner() })
    }
}

/// One section.
#[derive(Clone)]
pub(in crate::config) struct Table<'a> {
    reader: &'a Reader<'a>,
    path: String,
    line: usize,
    entries: Option<&'a DeTable<'a>>,
}

impl<'a> Table<'a> {
    /// The whole file.
    pub(super) fn root(reader: &'a Reader<'a>, entries: &'a DeTable<'a>) -> Self {
        let root = Self { reader, path: String::new(), line: 0, entries: Some(entries) };
        root.check_keys("");
        root
    }

    /// Whether the section stands in the file.
    pub(super) fn is_there(&self) -> bool {
        self.entries.is_some()
    }

    /// Whether `key` stands in the section, right or wrong.
    pub(in crate::config) fn has(&self, key: &str) -> bool {
        self.entry(key).is_some()
    }

    /// Whether `key` stands in the section `child`.
    pub(in crate::config) fn child_has(&self, child: &str, key: &str) -> bool {
        let entries = self.entry(child).and_then(|(_, value)| value.get_ref().as_table());
        entries.is_some_and(|entries| entries.iter().any(|(name, _)| name.get_ref() == key))
    }

    fn under(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// Notes keys that `section` of the schema does not have.
    fn check_keys(&self, section: &str) {
        let known = SCHEMA.iter().find(|(name, _)| *name == section).map_or(&[][..], |(_, keys)| *keys);
        for (key, _) in self.entries.into_iter().flat_map(|entries| entries.iter()) {
            let line = self.reader.line_at(key.span().start);
            let path = self.under(key.get_ref());
            if !known.contains(&key.get_ref().as_ref()) {
                let secret =
                    section == "connector[].secret[]" && ["value", "secret", "text"].contains(&key.get_ref().as_ref());
                let reason = if secret {
                    "a secret does not stand in this file: give the name of a file (file) or of a variable (env)"
                        .to_owned()
                } else {
                    format!("no such key{}", hint(key.get_ref(), known.iter().copied()))
                };
                self.reader.note(Sure::Here, line, &path, reason);
            }
            self.reader.lines.borrow_mut().insert(path, line);
        }
    }

    fn entry(&self, key: &str) -> Option<(usize, &'a Spanned<DeValue<'a>>)> {
        let (name, value) = self.entries?.iter().find(|(name, _)| name.get_ref() == key)?;
        Some((self.reader.line_at(name.span().start), value))
    }

    /// A key that may be left out.
    pub(super) fn get(&self, key: &str) -> Option<Value<'a>> {
        let (line, value) = self.entry(key)?;
        Some(Value { reader: self.reader, path: self.under(key), line, value: value.get_ref() })
    }

    /// A key that must be there.
    pub(super) fn require(&self, key: &str, example: &str) -> Option<Value<'a>> {
        let found = self.get(key);
        if found.is_none() {
            self.fault(key, format!("is missing; for instance {key} = {example}"));
        }
        found
    }

    /// The section `[key]`.
    pub(super) fn child(&self, key: &str, section: &str) -> Table<'a> {
        let mut child = Table { reader: self.reader, path: self.under(key), line: self.line, entries: None };
        if let Some((line, value)) = self.entry(key) {
            child.line = line;
            match value.get_ref() {
                DeValue::Table(entries) => child.entries = Some(entries),
                DeValue::Array(_) => {
                    child.here(format!("there is only one; write [{}] with single brackets", plain(section)))
                }
                _ => child.here(format!("is a section; write [{}] on its own line", plain(section))),
            }
        }
        child.check_keys(section);
        child
    }

    /// The sections `[[key]]`.
    pub(super) fn children(&self, key: &str, section: &str) -> Vec<Table<'a>> {
        let Some((line, value)) = self.entry(key) else {
            return Vec::new();
        };
        let one = Table { reader: self.reader, path: self.under(key), line, entries: None };
        let DeValue::Array(items) = value.get_ref() else {
            one.here(format!("there may be several; write [[{}]] with double brackets", plain(section)));
            return Vec::new();
        };
        let mut tables = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let line = self.reader.line_at(item.span().start);
            let path = format!("{}[{index}]", one.path);
            self.reader.lines.borrow_mut().insert(path.clone(), line);
            let table = Table { path, line, entries: item.get_ref().as_table(), ..one.clone() };
            if table.is_there() {
                table.check_keys(section);
                tables.push(table);
            } else {
                table.here(format!("is a section; write [[{}]] on its own line", plain(section)));
            }
        }
        tables
    }

    /// Notes a fault of `key`, at its line or, when it is not there, at the section's.
    pub(in crate::config) fn fault(&self, key: &str, reason: impl Into<String>) {
        let line = self.entry(key).map_or(self.line, |(line, _)| line);
        self.reader.note(Sure::Elsewhere, line, &self.under(key), reason.into());
    }

    /// Notes a fault of the section.
    pub(in crate::config) fn fault_here(&self, reason: impl Into<String>) {
        self.reader.note(Sure::Elsewhere, self.line, &self.path, reason.into());
    }

    fn here(&self, reason: String) {
        self.reader.note(Sure::Here, self.line, &self.path, reason);
    }
}

fn plain(section: &str) -> String {
    section.replace("[]", "")
}

/// One value.
#[derive(Clone)]
pub(in crate::config) struct Value<'a> {
    reader: &'a Reader<'a>,
    path: String,
    line: usize,
    value: &'a DeValue<'a>,
}

impl<'a> Value<'a> {
    /// Notes that the value is not right by itself.
    pub(super) fn wrong(&self, reason: impl Into<String>) {
        self.reader.note(Sure::Here, self.line, &self.path, reason.into());
    }

    /// Notes that the value does not fit other lines.
    pub(in crate::config) fn unfit(&self, reason: impl Into<String>) {
        self.reader.note(Sure::Elsewhere, self.line, &self.path, reason.into());
    }

    fn kind(&self) -> &'static str {
        match self.value {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "a whole number",
            DeValue::Float(_) => "a number with a fraction",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a section",
        }
    }

    /// A string.
    pub(super) fn string(&self) -> Option<&'a str> {
        let text = self.value.as_str();
        if text.is_none() {
            self.wrong(format!("is {}; a string in quotes is wanted", self.kind()));
        }
        text
    }

    /// A string that `read` takes or says why not.
    pub(super) fn parsed<T>(&self, read: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        read(self.string()?).map_err(|reason| self.wrong(reason)).ok()
    }

    /// One of the given words.
    pub(super) fn one_of<T: Copy>(&self, words: &[(&str, T)]) -> Option<T> {
        self.parsed(|text| {
            let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
            found
                .ok_or_else(|| format!("{text:?} is not known here{}", hint(text, words.iter().map(|(word, _)| *word))))
        })
    }

    /// A whole number within `range`.
    pub(super) fn integer(&self, range: RangeInclusive<u64>) -> Option<u64> {
        let DeValue::Integer(number) = self.value else {
            self.wrong(format!("is {}; a whole number is wanted", self.kind()));
            return None;
        };
        let read = u64::from_str_radix(number.as_str().trim_start_matches('+'), number.radix()).ok();
        let fits = read.filter(|number| range.contains(number));
        if fits.is_none() {
            self.wrong(format!("{} is not from {} to {}", number.as_str(), range.start(), range.end()));
        }
        fits
    }

    /// `true` or `false`.
    pub(super) fn boolean(&self) -> Option<bool> {
        let found = self.value.as_bool();
        if found.is_none() {
            self.wrong(format!("is {}; true or false is wanted, without quotes", self.kind()));
        }
        found
    }

    /// The items of a list.
    pub(super) fn list(&self) -> Option<Vec<Value<'a>>> {
        let Some(items) = self.value.as_array() else {
            self.wrong(format!("is {}; a list in brackets is wanted, [...]", self.kind()));
            return None;
        };
        let item = |(index, item): (usize, &'a Spanned<DeValue<'a>>)| Value {
            reader: self.reader,
            path: format!("{}[{index}]", self.path),
            line: self.reader.line_at(item.span().start),
            value: item.get_ref(),
        };
        Some(items.iter().enumerate().map(item).collect())
    }

    /// A value, or a list of such.
    pub(super) fn one_or_more(&self) -> Option<Vec<Value<'a>>> {
        if self.value.is_array() { self.list() } else { Some(vec![self.clone()]) }
    }

    /// The items of a list, each taken by `read`, which notes what is wrong with it; `None` when any is wrong.
    pub(super) fn each<T>(&self, read: impl Fn(&Value<'a>) -> Option<T>) -> Option<Vec<T>> {
        let items = self.list()?;
        let good: Vec<T> = items.iter().filter_map(read).collect();
        (good.len() == items.len()).then_some(good)
    }
}
