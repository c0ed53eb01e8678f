//! `tonewall recordings search`: what the catalogue has, a page at a time, as a table or as the API answers it. That
//! somebody searched, and by which conditions, stands in the audit log; what they searched for does not.

use std::io;

use clap::Args;

use super::{EXIT_INTACT, Site, Terminal, table, time};
use crate::audit::{Action, Outcome};
use crate::control::recordings::listed;
use crate::record::catalogue::{Asked, Entry, Page};
use crate::record::place::Utc;
use crate::rt::audit::Guest;

/// What is wanted.
#[derive(Debug, Clone, Default, Args)]
pub struct Wanted {
    /// Caller's, called or agent's number, or the end of it.
    #[arg(long)]
    pub number: Option<String>,
    /// Call.
    #[arg(long, value_name = "ID")]
    pub call: Option<String>,
    /// SIP Call-ID of one of its legs.
    #[arg(long, value_name = "ID")]
    pub sip_call_id: Option<String>,
    /// Trunk it came in or went out on.
    #[arg(long, value_name = "NAME")]
    pub trunk: Option<String>,
    /// A label it bears; may be given several times.
    #[arg(long, value_name = "NAME=VALUE")]
    pub label: Vec<String>,
    /// `recording`, `finalising`, `sealed`, `interrupted`, `quarantined`, `destroyed`, or `held`.
    #[arg(long)]
    pub state: Option<String>,
    /// The UTC day on which it began, for instance 2026-11-22.
    #[arg(long, value_name = "DAY")]
    pub day: Option<String>,
    /// Began at this time or later: 2026-11-22T14:00:00Z, a day, or milliseconds since 1970.
    #[arg(long, value_name = "TIME")]
    pub from: Option<String>,
    /// Began before this time.
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// Where the page before ended, as it said.
    #[arg(long, value_name = "PLACE")]
    pub after: Option<String>,
    /// Recordings of a page, 1 to 1000; 100 when absent.
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// Every page, one after the other.
    #[arg(long)]
    pub all: bool,
    /// As the API answers: one JSON object for each page.
    #[arg(long)]
    pub json: bool,
    /// What for; stands in the audit log.
    #[arg(long, value_name = "TEXT")]
    pub purpose: Option<String>,
}

impl Wanted {
    fn asked(&self) -> Asked {
        let Wanted { number, call, sip_call_id, trunk, label, state, day, from, until, after, limit, .. } =
            self.clone();
        Asked { call, sip_call_id, trunk, number, labels: label, day, from, until, state, after, limit }
    }
}

pub(super) fn run(wanted: &Wanted, site: &Site, guest: &Guest, terminal: &mut Terminal<'_>) -> io::Result<u8> {
    let asked = wanted.asked();
    let conditions: Vec<&str> = asked.conditions();
    let mut query = asked.query().map_err(|slip| io::Error::other(format!("--{slip}").replace('_', "-")))?;
    let root = site.root().display().to_string();
    let catalogue = site.catalogue()?.ok_or_else(|| {
        io::Error::other(format!("there is no catalogue in {root}; `tonewall recordings reindex` makes one"))
    })?;
    let mut any = false;
    loop {
        let page = catalogue.search(&query).map_err(io::Error::other)?;
        // Before it is shown: what cannot be noted is not looked at.
        let conditions = conditions.iter().map(|name| (*name).into()).collect();
        let action = Action::RecordingsSearched { conditions, found: page.entries.len() as u64 };
        guest.write(action, Outcome::DONE, wanted.purpose.as_deref())?;
        let (next, cursor) = (page.next, page.cursor());
        if wanted.json {
            writeln!(terminal.out, "{}", listed(page))?;
        } else if !page.entries.is_empty() {
            show(&page, !any, terminal)?;
            any = true;
        }
        match (next, cursor) {
            (Some(next), _) if wanted.all => query.after = Some(next),
            (_, Some(cursor)) if !wanted.json => {
                writeln!(terminal.err, "there are more: --after {cursor}, or --all")?;
                break;
            }
            _ => break,
        }
    }
    if !any && !wanted.json {
        writeln!(terminal.out, "nothing found")?;
    }
    Ok(EXIT_INTACT)
}

fn show(page: &Page, heads: bool, terminal: &mut Terminal<'_>) -> io::Result<()> {
    let mut rows = Vec::new();
    if heads {
        let names = ["RECORDING", "CALL", "STARTED (UTC)", "LENGTH", "STATE", "CALLER", "CALLED", "AGENT", "TRUNKS"];
        let [a, b, c, d, e, f, g, h, i] = names.map(str::to_owned);
        rows.push([a, b, c, d, e, f, g, h, i, "PLACE".to_owned(), "LABELS".to_owned()]);
    }
    rows.extend(page.entries.iter().map(row));
    table(&rows, &[3], terminal)
}

fn row(entry: &Entry) -> [String; 11] {
    // What a peer wrote may hold anything.
    let plain = |text: &str| {
        let kept: String = text.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
        if kept.is_empty() { "-".to_owned() } else { kept }
    };
    let labels: Vec<String> = entry.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    [
        entry.recording.to_string(),
        entry.call.map_or_else(|| "-".to_owned(), |call| call.to_string()),
        Utc::of(entry.started_ms).date_time(),
        // Eight frames a millisecond.
        time(entry.length_ms * 8),
        entry.word().to_owned(),
        plain(&entry.caller),
        plain(&entry.called),
        plain(&entry.agent),
        plain(&format!("{} > {}", entry.from_trunk, entry.to_trunk)),
        entry.whereabouts.word().to_owned(),
        plain(&labels.join(" ")),
    ]
}
