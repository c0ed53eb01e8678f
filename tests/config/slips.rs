//! Every kind of mistake in a configuration, and the faults it must get: all of them, each with line, key and reason.

mod recorder;
mod sections;
mod together;
mod words;

use tonewall::config::Config;

use super::{REFERENCE, SMALL};

/// A change to a good file: what is replaced by what.
pub struct Slip {
    base: &'static str,
    from: &'static str,
    to: &'static str,
    /// `line: key: part of the reason`, one per fault, all of them; `+n` counts lines from the change.
    faults: &'static [&'static str],
}

pub const fn small(from: &'static str, to: &'static str, faults: &'static [&'static str]) -> Slip {
    Slip { base: SMALL, from, to, faults }
}

pub const fn reference(from: &'static str, to: &'static str, faults: &'static [&'static str]) -> Slip {
    Slip { base: REFERENCE, from, to, faults }
}

#[test]
fn each_slip_gets_exactly_its_faults() {
    let slips: Vec<&Slip> = [words::SLIPS, together::SLIPS, sections::SLIPS].into_iter().flatten().collect();
    assert!(slips.len() >= 40, "{} slips", slips.len());
    let mut wrong = Vec::new();
    for (index, slip) in slips.into_iter().enumerate() {
        assert!(slip.base.contains(slip.from), "slip {index}: {:?} is not in the file", slip.from);
        let changed = slip.base.split(slip.from).next().map_or(0, |before| before.matches('\n').count() + 1);
        let text = slip.base.replacen(slip.from, slip.to, 1);
        let found: Vec<String> = match Config::parse("t", &text) {
            Ok(_) => Vec::new(),
            Err(faults) => {
                faults.iter().map(|fault| format!("{}: {}: {}", fault.line, fault.key, fault.reason)).collect()
            }
        };
        let fits = found.len() == slip.faults.len()
            && slip.faults.iter().zip(&found).all(|(wanted, found)| {
                let mut wanted = wanted.splitn(3, ": ");
                let (line, key, reason) = (wanted.next().unwrap_or(""), wanted.next(), wanted.next());
                let line = match line.strip_prefix('+') {
                    Some(after) => changed + after.parse::<usize>().expect("a number"),
                    None => line.parse().expect("a number"),
                };
                found.starts_with(&format!("{line}: {}: ", key.unwrap_or(""))) && found.contains(reason.unwrap_or("\0"))
            });
        if !fits {
            wrong.push(format!(
                "slip {index}: {:?} -> {:?}\n  wanted {:#?}\n  found {found:#?}",
                slip.from, slip.to, slip.faults
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
