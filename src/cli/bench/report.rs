//! Where an experiment's results go: tables to standard output as they are ready, progress to standard error where
//! somebody looks, and with `--out` everything into files. Decides nothing about the figures.

use std::borrow::Cow;
use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;

use crate::testkit::lab::{Plot, Table, page};

/// What every experiment is told.
#[derive(Debug, Clone, clap::Args)]
pub struct Common {
    /// Fewer trials: a minute instead of many, as continuous integration runs it.
    #[arg(long)]
    pub quick: bool,
    /// Seed of every stimulus; the same seed gives the same figures.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Write tables (text, CSV, JSON), plots (SVG) and one page of all (HTML) into this directory.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// The results of one experiment.
pub struct Report {
    name: &'static str,
    common: Common,
    facts: Vec<String>,
    tables: Vec<Table>,
    plots: Vec<Plot>,
}

impl Report {
    /// An empty report. Makes the output directory, so that a wrong one is told before the work and not after it.
    pub fn new(name: &'static str, common: &Common) -> io::Result<Self> {
        if let Some(dir) = &common.out {
            fs::create_dir_all(dir)?;
        }
        let mut report =
            Self { name, common: common.clone(), facts: Vec::new(), tables: Vec::new(), plots: Vec::new() };
        let size = if common.quick { "quick" } else { "full" };
        report.fact(&format!(
            "tonewall {} bench {name}, {size} size, seed {}",
            env!("CARGO_PKG_VERSION"),
            common.seed
        ))?;
        Ok(report)
    }

    /// Says something that belongs to the figures: what was installed, what was skipped and why.
    pub fn fact(&mut self, text: &str) -> io::Result<()> {
        writeln!(io::stdout(), "{text}")?;
        self.facts.push(text.to_owned());
        Ok(())
    }

    /// Prints a table and keeps it.
    pub fn table(&mut self, table: Table) -> io::Result<()> {
        writeln!(io::stdout(), "\n{}", table.text())?;
        self.tables.push(table);
        Ok(())
    }

    /// Keeps a plot; nothing of it is seen without `--out`.
    pub fn plot(&mut self, plot: Plot) {
        self.plots.push(plot);
    }

    /// A progress bar over `total` trials on standard error; hidden where nobody looks.
    pub fn progress(&self, what: impl Into<Cow<'static, str>>, total: usize) -> ProgressBar {
        if !io::stderr().is_terminal() {
            return ProgressBar::hidden();
        }
        let bar = ProgressBar::with_draw_target(Some(total as u64), ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("{msg:40} [{bar:32}] {pos}/{len} {eta} left");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("━╸ "));
        bar.set_message(what);
        bar
    }

    /// Writes the files and the last word; whether every bar was met.
    pub fn finish(mut self) -> io::Result<bool> {
        let failures: Vec<String> =
            self.tables.iter().flat_map(|t| t.failures().map(move |row| format!("{}: {row}", t.title))).collect();
        let last = match failures.as_slice() {
            [] => "every bar measured is met".to_owned(),
            some => format!("NOT MET ({}):\n  {}", some.len(), some.join("\n  ")),
        };
        writeln!(io::stdout())?;
        self.fact(&last)?;
        if let Some(dir) = &self.common.out {
            let mut text = self.facts.join("\n") + "\n";
            for table in &self.tables {
                text += "\n";
                text += &table.text();
                fs::write(dir.join(format!("{}.csv", table.name)), table.csv())?;
            }
            for plot in &self.plots {
                fs::write(dir.join(format!("{}.svg", plot.name)), plot.svg())?;
            }
            fs::write(dir.join(format!("{}.txt", self.name)), text)?;
            let tables: Vec<_> = self.tables.iter().map(Table::json).collect();
            let json = json!({"experiment": self.name, "version": env!("CARGO_PKG_VERSION"), "seed": self.common.seed,
                "quick": self.common.quick, "facts": self.facts, "met": failures.is_empty(), "tables": tables});
            fs::write(dir.join(format!("{}.json", self.name)), format!("{json:#}\n"))?;
            let page = page::page(self.name, &self.facts, &self.tables, &self.plots);
            fs::write(dir.join(format!("{}.html", self.name)), page)?;
            writeln!(io::stdout(), "written to {}", dir.display())?;
        }
        Ok(failures.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::lab::{Axis, Rate, Series};

    #[test]
    fn a_report_writes_every_form_and_tells_what_is_not_met() {
        let dir = tempfile::tempdir().expect("a directory");
        let common = Common { quick: true, seed: 7, out: Some(dir.path().join("new")) };
        let mut report = Report::new("x", &common).expect("a report");
        let mut table = Table::new("numbers", "Numbers", &["bar", "right", "met"]);
        table.row(["D1".into(), Rate::new(9, 10).into(), false.into()]);
        report.table(table).expect("printed");
        let mut plot = Plot::new("curve", "Curve", Axis::new("x", 0.0, 1.0), Axis::percent("y"));
        plot.series.push(Series::new("a", vec![(0.0, 0.0), (1.0, 100.0)]));
        report.plot(plot);
        assert!(!report.finish().expect("written"));
        let read = |name: &str| fs::read_to_string(dir.path().join("new").join(name)).expect(name);
        assert!(read("x.txt").contains("NOT MET (1):\n  Numbers: D1"));
        assert!(read("numbers.csv").starts_with("bar,right %"));
        assert!(read("curve.svg").starts_with("<svg"));
        assert!(read("x.html").contains("<svg") && read("x.html").contains("Numbers"));
        let json: serde_json::Value = serde_json::from_str(&read("x.json")).expect("JSON");
        assert_eq!(json["met"], false);
        assert_eq!(json["seed"], 7);
    }
}
