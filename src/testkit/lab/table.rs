//! A table of results, and its forms: aligned text for a terminal, CSV for a spreadsheet, JSON for a program. Cells keep
//! their numbers, so the CSV and JSON carry counts and bounds that the text rounds.

use std::fmt::Write;

use serde_json::{Map, Value, json};

use super::rate::Rate;

/// One cell.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// Does not apply, or the peer is not installed.
    Nothing,
    /// Words.
    Text(String),
    /// A count.
    Count(u64),
    /// A number with so many decimals.
    Number(f64, usize),
    /// A share in percent with its Wilson bounds.
    Share(Rate),
    /// Whether a bar is met.
    Verdict(bool),
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Cell::Text(text.to_owned())
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Cell::Text(text)
    }
}

impl From<u64> for Cell {
    fn from(count: u64) -> Self {
        Cell::Count(count)
    }
}

impl From<usize> for Cell {
    fn from(count: usize) -> Self {
        Cell::Count(count as u64)
    }
}

impl From<Rate> for Cell {
    fn from(rate: Rate) -> Self {
        Cell::Share(rate)
    }
}

impl From<bool> for Cell {
    fn from(met: bool) -> Self {
        Cell::Verdict(met)
    }
}

impl<T: Into<Cell>> From<Option<T>> for Cell {
    fn from(cell: Option<T>) -> Self {
        cell.map_or(Cell::Nothing, Into::into)
    }
}

impl Cell {
    /// As a person reads it.
    pub fn text(&self) -> String {
        match self {
            Cell::Nothing => "–".to_owned(),
            Cell::Text(text) => text.clone(),
            Cell::Count(count) => count.to_string(),
            Cell::Number(value, decimals) => format!("{value:.decimals$}"),
            Cell::Share(rate) => share(*rate),
            Cell::Verdict(true) => "ok".to_owned(),
            Cell::Verdict(false) => "FAILED".to_owned(),
        }
    }

    fn json(&self) -> Value {
        match self {
            Cell::Nothing => Value::Null,
            Cell::Text(text) => json!(text),
            Cell::Count(count) => json!(count),
            Cell::Number(value, _) => json!(value),
            Cell::Share(rate) => {
                let (low, high) = rate.wilson();
                json!({"hits": rate.hits, "of": rate.of, "percent": rate.percent(),
                       "low": 100.0 * low, "high": 100.0 * high})
            }
            Cell::Verdict(met) => json!(met),
        }
    }

    fn is_number(&self) -> bool {
        !matches!(self, Cell::Text(_) | Cell::Verdict(_))
    }
}

/// `99.98 % [99.95, 99.99]`: as many decimals as the number of trials can tell apart.
fn share(rate: Rate) -> String {
    if rate.of == 0 {
        return "–".to_owned();
    }
    let decimals = match rate.of {
        0..200 => 1,
        200..2_000 => 2,
        _ => 3,
    };
    let (low, high) = rate.wilson();
    // A share that is not all must not be rounded to all.
    let mut percent = format!("{:.decimals$}", rate.percent());
    if rate.hits < rate.of && percent.starts_with("100") {
        percent = format!("{:.*}", decimals + 2, rate.percent());
    }
    let bounds = decimals.saturating_sub(1).max(1);
    format!("{percent} % [{:.bounds$}, {:.bounds$}]", 100.0 * low, 100.0 * high)
}

/// Rows of cells under columns.
#[derive(Debug, Clone)]
pub struct Table {
    /// File name without ending.
    pub name: String,
    /// Heading.
    pub title: String,
    /// What the rows mean, under the heading; may be empty.
    pub note: String,
    columns: Vec<String>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// An empty table.
    pub fn new(name: &str, title: &str, columns: &[&str]) -> Self {
        Self {
            name: name.to_owned(),
            title: title.to_owned(),
            note: String::new(),
            columns: columns.iter().map(|c| (*c).to_owned()).collect(),
            rows: Vec::new(),
        }
    }

    /// Says what the rows mean.
    pub fn note(mut self, note: &str) -> Self {
        note.clone_into(&mut self.note);
        self
    }

    /// Adds a row; missing cells are empty, those past the last column are dropped.
    pub fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        let mut row: Vec<Cell> = cells.into_iter().take(self.columns.len()).collect();
        row.resize(self.columns.len(), Cell::Nothing);
        self.rows.push(row);
    }

    /// The rows so far.
    pub fn rows(&self) -> &[Vec<Cell>] {
        &self.rows
    }

    /// The columns' headings.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// The rows that hold a verdict of 'not met', by their first cell.
    pub fn failures(&self) -> impl Iterator<Item = String> {
        let failed = self.rows.iter().filter(|row| row.contains(&Cell::Verdict(false)));
        failed.map(|row| row.first().map(Cell::text).unwrap_or_default())
    }

    /// For a terminal: aligned, numbers to the right.
    pub fn text(&self) -> String {
        let cells: Vec<Vec<String>> = self.rows.iter().map(|row| row.iter().map(Cell::text).collect()).collect();
        let width = |n: usize| {
            let widest = cells.iter().filter_map(|row| row.get(n)).map(|c| c.chars().count()).max().unwrap_or(0);
            widest.max(self.columns[n].chars().count())
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let numeric: Vec<bool> =
            (0..self.columns.len()).map(|n| self.rows.iter().all(|row| row[n].is_number())).collect();
        let line = |cells: &[String]| {
            let mut out = String::new();
            for (n, cell) in cells.iter().enumerate() {
                let space = " ".repeat(widths[n] - cell.chars().count());
                let _ = if numeric[n] { write!(out, "  {space}{cell}") } else { write!(out, "  {cell}{space}") };
            }
            out.trim_end().to_owned()
        };
        let mut out = format!("{}\n", self.title);
        for paragraph in self.note.lines() {
            let _ = writeln!(out, "  {paragraph}");
        }
        let rule: usize = widths.iter().map(|w| w + 2).sum();
        let _ = writeln!(out, "{}\n  {}", line(&self.columns), "─".repeat(rule.saturating_sub(2)));
        for row in &cells {
            let _ = writeln!(out, "{}", line(row));
        }
        out
    }

    /// For a spreadsheet (RFC 4180): a share takes five columns, percent, its bounds, hits and trials.
    pub fn csv(&self) -> String {
        let shares: Vec<bool> =
            (0..self.columns.len()).map(|n| self.rows.iter().any(|row| matches!(row[n], Cell::Share(_)))).collect();
        let quoted = |text: &str| {
            if text.contains([',', '"', '\n']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
        };
        let mut out = String::new();
        let mut line = |fields: Vec<String>| {
            out += &fields.iter().map(|f| quoted(f)).collect::<Vec<_>>().join(",");
            out += "\r\n";
        };
        let heads = self.columns.iter().zip(&shares).flat_map(|(column, share)| {
            let endings: &[&str] = if *share { &[" %", " low %", " high %", " hits", " of"] } else { &[""] };
            endings.iter().map(move |ending| format!("{column}{ending}"))
        });
        line(heads.collect());
        for row in &self.rows {
            let fields = row.iter().zip(&shares).flat_map(|(cell, share)| match cell {
                Cell::Share(rate) => {
                    let (low, high) = rate.wilson();
                    let percents = [rate.percent(), 100.0 * low, 100.0 * high].map(|p| format!("{p:.4}"));
                    percents.into_iter().chain([rate.hits.to_string(), rate.of.to_string()]).collect()
                }
                Cell::Nothing => vec![String::new(); if *share { 5 } else { 1 }],
                Cell::Number(value, _) => vec![value.to_string()],
                other => {
                    let mut fields = vec![other.text()];
                    fields.resize(if *share { 5 } else { 1 }, String::new());
                    fields
                }
            });
            line(fields.collect());
        }
        out
    }

    /// For a program.
    pub fn json(&self) -> Value {
        let rows: Vec<Value> = self
            .rows
            .iter()
            .map(|row| {
                let fields = self.columns.iter().zip(row).map(|(column, cell)| (column.clone(), cell.json()));
                Value::Object(fields.collect::<Map<_, _>>())
            })
            .collect();
        json!({"name": self.name, "title": self.title, "note": self.note, "columns": self.columns, "rows": rows})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Table {
        let mut table = Table::new("t", "A title", &["bar", "n", "right", "met"]).note("what it is");
        table.row(["D1, µ".into(), 10_000u64.into(), Rate::new(10_000, 10_000).into(), true.into()]);
        table.row(["D2 \"x\"".into(), 400u64.into(), Rate::new(399, 400).into(), false.into()]);
        table.row(["none".into()]);
        table
    }

    #[test]
    fn text_is_aligned_and_never_rounds_up_to_all() {
        let text = sample().text();
        assert!(text.contains("100.000 % [99.96, 100.00]"), "{text}");
        assert!(text.contains("99.75 % [98.6, 100.0]"), "{text}");
        assert!(share(Rate::new(99_999, 100_000)).starts_with("99.999 %"));
        assert!(share(Rate::new(999_999, 1_000_000)).starts_with("99.99990 %"));
        assert_eq!(sample().failures().collect::<Vec<_>>(), ["D2 \"x\""]);
        let ends: Vec<usize> =
            text.lines().filter(|l| l.contains("ok") || l.contains("FAILED")).map(str::len).collect();
        assert_eq!(ends.len(), 2);
    }

    #[test]
    fn csv_keeps_counts_and_quotes_what_needs_it() {
        let csv = sample().csv();
        let lines: Vec<&str> = csv.split("\r\n").collect();
        assert_eq!(lines[0], "bar,n,right %,right low %,right high %,right hits,right of,met");
        assert!(lines[1].starts_with("\"D1, µ\",10000,100.0000,") && lines[1].ends_with(",10000,10000,ok"));
        assert!(lines[2].starts_with("\"D2 \"\"x\"\"\","));
        let commas = |line: &str| line.matches(',').count();
        assert_eq!(commas(lines[3]), 7, "{}", lines[3]);
    }

    #[test]
    fn json_keeps_the_bounds() {
        let json = sample().json();
        assert_eq!(json["rows"][1]["right"]["hits"], 399);
        assert_eq!(json["rows"][1]["met"], false);
        assert!(json["rows"][2]["n"].is_null());
    }
}
