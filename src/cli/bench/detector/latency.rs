//! How long after a tone's onset it is suspected, and named: fed sample block by sample block, as no network would.

use std::io;

use super::super::lab::Lab;
use crate::dtmf::inband::Point;
use crate::rt::crew;
use crate::testkit::lab::hear::{Heard, Packets, ours, spandsp};
use crate::testkit::lab::stimuli::{Stimulus, d2};
use crate::testkit::lab::{Axis, Cell, Plot, Series, Table, Zone};
use crate::testkit::tones::{Line, Plan};

/// Measures, and draws the distribution.
pub fn measure(lab: &mut Lab) -> io::Result<()> {
    let plan = Plan { tone_ms: vec![100.0], pause_ms: vec![60.0], ..d2(20.0) };
    let stimulus = Stimulus::plain(plan);
    let lines: Vec<u64> = (0..lab.size(400, 40) as u64).map(|n| lab.seed("latency", n)).collect();
    let bar = lab.report.progress("latency", lines.len());
    let all = crew::each(&lines, |seed| {
        let (line, _) = stimulus.draw(*seed);
        bar.inc(1);
        let packets = Packets::all(8);
        let armed = ours(Point::Armed, &line.samples, &packets);
        let unarmed = ours(Point::Unarmed, &line.samples, &packets);
        let peer = lab.spandsp().map(|library| spandsp(library, &line.samples, &packets));
        let series = [
            Some(suspected(&line, &armed)),
            Some(named(&line, &armed)),
            Some(named(&line, &unarmed)),
            peer.map(|heard| named(&line, &heard)),
        ];
        (line.presses.len(), series)
    });
    bar.finish_and_clear();
    let of: usize = all.iter().map(|(presses, _)| presses).sum();
    let names = ["suspected (armed)", "named (armed)", "named (unarmed)", "SpanDSP"];
    let note = "From the tone's onset, fed in steps of 1 ms: ±1.8 % off, twist −8…+5 dB, SNR 20 dB. A suspicion closes the\n\
                gate; what the look-ahead of 12 ms still holds is masked with it.";
    let columns = ["", "digits", "never", "p50 ms", "p99 ms", "p99.9 ms", "longest ms", "asked", "met"];
    let mut table = Table::new("latency", "Latency", &columns).note(note);
    let mut plot = Plot::new(
        "latency",
        "Time from onset to verdict",
        Axis::new("ms after the onset", 0.0, 60.0),
        Axis::percent("digits, %"),
    );
    plot.subtitle = format!("100 ms tones, ±1.8 % off, twist −8…+5 dB, SNR 20 dB; {of} digits");
    plot.zones.push(Zone::must(0.0, 12.0, "look-ahead"));
    for (n, name) in names.into_iter().enumerate() {
        let times: Option<Vec<Vec<f64>>> = all.iter().map(|(_, series)| series[n].clone()).collect();
        let Some(times) = times else { continue };
        let mut times = times.concat();
        times.sort_by(f64::total_cmp);
        // Of all digits, those never told included, which come last.
        let quantile = |q: f64| times.get(((of as f64 * q).ceil() as usize).max(1) - 1).map(|ms| Cell::Number(*ms, 1));
        let mut row: Vec<Cell> = vec![name.into(), of.into(), (of - times.len().min(of)).into()];
        row.extend([0.5, 0.99, 0.999].map(|q| quantile(q).into()));
        row.push(times.last().map(|ms| Cell::Number(*ms, 1)).into());
        if n == 0 {
            // The suspicion must come while the onset is still held back.
            row.extend([
                Cell::from("all ≤ 12 ms"),
                (times.len() == of && times.last().is_some_and(|ms| *ms <= 12.0)).into(),
            ]);
        }
        table.row(row);
        plot.series.push(Series::distribution(name, &times, of));
    }
    lab.report.plot(plot);
    lab.report.table(table)
}

/// For each press that lies in a stretch: ms from its onset to when the stretch was begun (0 if it was open already).
fn suspected(line: &Line, heard: &Heard) -> Vec<f64> {
    let mut times = Vec::new();
    for press in &line.presses {
        let (begin, end) = (press.begin as u64, press.end as u64);
        let over = heard.stretches.iter().find(|s| s.from <= begin && s.to >= end);
        times.extend(over.map(|s| s.at.saturating_sub(begin) as f64 / 8.0));
    }
    times
}

/// For each press that was told between its onset and the next one's: ms to when it was.
fn named(line: &Line, heard: &Heard) -> Vec<f64> {
    let mut times = Vec::new();
    for (n, press) in line.presses.iter().enumerate() {
        let until = line.presses.get(n + 1).map_or(u64::MAX, |next| next.begin as u64);
        let own = heard.told.iter().find(|t| t.at > press.begin as u64 && t.at <= until);
        let right = own.filter(|t| t.key == press.digit.expose_char());
        times.extend(right.map(|t| (t.at - press.begin as u64) as f64 / 8.0));
    }
    times
}
