//! The run's figures as tables and plots: what each attacker got out of each sink with the guard on, beside what it got
//! with the guard off, and what was collected; by form, line, codec, mask, packet time and grade.
//!
//! The bars hold for all digits of a run together. A part of them (a form, a line, one cell) has too few digits for a
//! bound of 12 %: there a row fails when blind guessing would do as well or better less than once in a thousand runs,
//! over all rows of its table together.

use super::cases::{Case, Line, MASKS, Way};
use super::moments::adjust;
use super::permutation::{BAR, Finding, SHUFFLES};
use super::residual::{Residual, delay_ms};
use super::score::{Collected, Score, Sink, Tally, by_chance};
use crate::base::Random;
use crate::config::Codec;
use crate::testkit::lab::{Axis, Cell, Plot, Rate, Series, Table};

/// Right guesses of ten keys, upper 95 % bound.
pub const MOST_RIGHT: f64 = 0.12;
/// Bits per digit.
pub const MOST_BITS: f64 = 0.02;
/// E/σ², upper 95 % bound.
pub const MOST_RESIDUAL: f64 = 0.5;
/// An attacker that gets less than this with the guard off is too blunt to prove anything.
pub const LEAST_CONTROL: f64 = 0.9;
/// A table of parts fails by chance once in so many runs.
const FALSE_ALARM: f64 = 0.001;

/// One played call.
pub type Played = (Case, Score);

fn sum<'a>(played: impl Iterator<Item = &'a Played>) -> Score {
    played.map(|(_, score)| score).sum()
}

/// The one-sided upper 95 % bound of a share (Wilson's).
pub fn upper(rate: Rate) -> f64 {
    if rate.of == 0 {
        return 1.0;
    }
    let (n, p, z) = (rate.of as f64, rate.share(), 1.645f64);
    let centre = p + z * z / (2.0 * n);
    let spread = z * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt();
    ((centre + spread) / (1.0 + z * z / n)).min(1.0)
}

/// Codecs as tables say them.
pub fn codec_name(codec: Codec) -> String {
    format!("{codec:?}").to_uppercase()
}

/// What each attacker got, all digits together.
pub fn attackers(played: &[Played], random: &mut Random) -> Table {
    let mut table = Table::new(
        "leak-attackers",
        "L1: what attackers recover of ten keys (blind chance 10 %)",
        &["attacker and sink", "digits", "right", "upper 95 %", "bits per digit", "control: guard off", "met"],
    )
    .note(
        "Each attacker knows every key's onset and tries all delays from 40 ms before to 200 ms after it. Bars: upper bound\n\
         of right guesses 12 %, 0.02 bit. Digits that came through and were not collected count as right guesses.\n\
         The control is the same attacker on the same keys with the guard off, in the forms its sink then carries. Metadata\n\
         tell no key even then; what the classifier finds where something is planted, its unit test shows.",
    );
    let on = sum(played.iter().filter(|(case, _)| case.guarded));
    let off = |wanted: &dyn Fn(Way) -> bool| sum(played.iter().filter(|(case, _)| !case.guarded && wanted(case.way)));
    let sounding = off(&sounds);
    let telling = off(&|way| !matches!(way, Way::Tone | Way::RedTone));
    let mut row = |name: &str, tally: Tally, control: Option<Rate>| {
        let seen = tally.rate();
        let right = Rate { hits: (seen.hits + on.collected.missed).min(seen.of), of: seen.of };
        let met = upper(right) <= MOST_RIGHT && tally.bits() <= MOST_BITS;
        let control_met = control.is_none_or(|rate| rate.share() >= LEAST_CONTROL);
        table.row([
            name.into(),
            seen.of.into(),
            right.into(),
            Cell::Number(100.0 * upper(right), 2),
            Cell::Number(tally.bits(), 4),
            control.into(),
            (met && control_met && seen.of > 0).into(),
        ]);
    };
    row("least squares, agent's ear", on.ear.least_squares, Some(sounding.ear.least_squares.rate()));
    row("zero-phase template, agent's ear", on.ear.template, Some(sounding.ear.template.rate()));
    row("least squares, recording", on.tape.least_squares, Some(sounding.tape.least_squares.rate()));
    row("zero-phase template, recording", on.tape.template, Some(sounding.tape.template.rate()));
    row("events and INFO at the PBX", on.messages, Some(telling.messages.rate()));
    row("classifier on packet metadata", on.metadata(random), None);
    table
}

fn sounds(way: Way) -> bool {
    !matches!(way, Way::Event | Way::RedEvent | Way::LostEnds | Way::Info)
}

/// What decoders read, which must be nothing.
pub fn decoders(played: &[Played], texts: Option<(usize, usize)>) -> Table {
    let mut table = Table::new(
        "leak-decoders",
        "What decoders and texts give away",
        &["sink", "looked at", "digits read", "control: guard off", "met"],
    )
    .note("Decoders may read no digit; over speech, which they take for digits now and then, no more of them right than by chance.\n\
         Texts (SIP to the PBX, events, log at debug level, metrics) may hold no run of keyed digits.");
    let on = sum(played.iter().filter(|(case, _)| case.guarded));
    let off =
        sum(played.iter().filter(|(case, _)| !case.guarded && sounds(case.way) && case.way != Way::ToneThenEvent));
    for (name, sink, control) in [("agent's ear", &on.ear, &off.ear), ("recording, both sides", &on.tape, &off.tape)] {
        table.row([
            format!("SpanDSP, {name}").into(),
            sink.spandsp.map(|rate| rate.of).into(),
            sink.spandsp.map(|rate| rate.hits).into(),
            control.spandsp.into(),
            sink.spandsp.map(|rate| rate.hits == 0).into(),
        ]);
        table.row([
            format!("our own ordinary decoder, {name}").into(),
            sink.decoded.of.into(),
            sink.decoded.hits.into(),
            control.decoded.into(),
            (sink.decoded.hits == 0 && control.decoded.share() > 0.5).into(),
        ]);
    }
    for (name, sink) in [("agent's ear", &on.ear), ("recording", &on.tape)] {
        table.row([
            format!("any decoder over speech, right of what it reads, {name}").into(),
            sink.over_speech.of.into(),
            sink.over_speech.hits.into(),
            Cell::Nothing,
            (by_chance(sink.over_speech) >= FALSE_ALARM).into(),
        ]);
    }
    table.row([
        "events and INFO that name a key".into(),
        on.keyed.into(),
        on.messages_with_keys.into(),
        Cell::Nothing,
        (on.messages_with_keys == 0).into(),
    ]);
    table.row([
        "SIP to the PBX and events of each call".into(),
        on.calls.into(),
        on.texts.into(),
        Cell::Nothing,
        (on.texts == 0).into(),
    ]);
    if let Some((bytes, told)) = texts {
        table.row([
            "log, metrics, all events (bytes)".into(),
            bytes.into(),
            told.into(),
            Cell::Nothing,
            (told == 0 && bytes > 0).into(),
        ]);
    }
    table
}

/// What is left of the tones.
pub fn residuals(played: &[Played]) -> Table {
    let mut table = Table::new(
        "leak-residual",
        "L1: what is left of the tones, E/σ²",
        &["sink", "digits", "mean", "upper 95 %", "at delay (ms)", "window", "control: guard off", "met"],
    )
    .note("The fit of the true key over windows of 10 ms and as long as the key, at the delay where most is left; bar 0.5.");
    let on = sum(played.iter().filter(|(case, _)| case.guarded));
    let off = sum(played.iter().filter(|(case, _)| !case.guarded));
    for (name, sink, control) in [("agent's ear", &on.ear, &off.ear), ("recording", &on.tape, &off.tape)] {
        let (mean, bound, delay, short) = sink.residual.worst();
        table.row([
            name.into(),
            sink.residual.count().into(),
            Cell::Number(mean, 3),
            Cell::Number(bound, 3),
            Cell::Number(delay, 1),
            if short { "10 ms" } else { "whole key" }.into(),
            Cell::Number(control.residual.worst().0, 0),
            (bound <= MOST_RESIDUAL && control.residual.worst().0 > 20.0).into(),
        ]);
    }
    table
}

/// One dimension of the run: what each part of it gave away, and what was collected in it.
pub fn by(played: &[Played], name: &str, title: &str, part: impl Fn(&Case) -> String) -> Table {
    let mut table = Table::new(
        name,
        title,
        &[
            "part",
            "digits",
            "ear",
            "recording",
            "control",
            "keyed",
            "came",
            "once",
            "missed",
            "may miss",
            "wrong",
            "extra",
            "met",
        ],
    );
    let mut parts: Vec<String> = Vec::new();
    for (case, _) in played {
        let part = part(case);
        if !parts.contains(&part) {
            parts.push(part);
        }
    }
    parts.sort();
    let limit = FALSE_ALARM / (2 * parts.len().max(1)) as f64;
    for wanted in &parts {
        let on = sum(played.iter().filter(|(case, _)| case.guarded && part(case) == *wanted));
        let off = sum(played.iter().filter(|(case, _)| !case.guarded && part(case) == *wanted && sounds(case.way)));
        let (ear, tape) = (on.ear.least_squares.rate(), on.tape.least_squares.rate());
        let got = on.collected;
        let met = by_chance(ear) >= limit && by_chance(tape) >= limit && is_exact(&got);
        table.row([
            wanted.as_str().into(),
            ear.of.into(),
            ear.into(),
            tape.into(),
            (off.ear.least_squares.rate().of > 0).then(|| off.ear.least_squares.rate()).into(),
            got.keyed.into(),
            got.came.into(),
            got.once.into(),
            got.missed.into(),
            Cell::Number(got.may_miss, 1),
            got.wrong.into(),
            got.miscounted.into(),
            met.into(),
        ]);
    }
    table
}

/// L2: each digit that came through was collected exactly once, but for those that the detector's bars let go unheard:
/// no more than that and three standard deviations.
pub fn is_exact(got: &Collected) -> bool {
    let may = got.may_miss + 3.0 * got.may_miss.sqrt();
    got.missed as f64 <= may && got.wrong == 0 && got.miscounted == 0
}

/// The calls in which not every key that came through was collected exactly once.
pub fn inexact(played: &[Played]) -> Option<Table> {
    let mut table = Table::new(
        "leak-inexact",
        "L2: calls in which not every key that came through was collected exactly once",
        &[
            "form",
            "line",
            "codec",
            "mask",
            "ms",
            "grade",
            "keyed",
            "came",
            "once",
            "missed",
            "wrong",
            "masked keys told",
            "held up (ms)",
        ],
    );
    for (case, score) in played.iter().filter(|(case, score)| case.guarded && !is_exact(&score.collected)) {
        let got = score.collected;
        table.row([
            case.way.name().into(),
            case.line.name().into(),
            codec_name(case.codec).into(),
            format!("{:?}", case.mask).to_lowercase().into(),
            u64::from(case.ptime_ms).into(),
            case.grade.name().into(),
            score.keyed.into(),
            score.came.into(),
            got.once.into(),
            got.missed.into(),
            got.wrong.into(),
            score.told.into(),
            Cell::Number(score.held_up.as_secs_f64() * 1e3, 0),
        ]);
    }
    (!table.rows().is_empty()).then_some(table)
}

/// Every dimension's table.
pub fn parts(played: &[Played]) -> Vec<Table> {
    let two = |n: usize, name: &str| format!("{n:>2} {name}");
    let place = |all: &[&str], name: &str| all.iter().position(|other| *other == name).unwrap_or(0);
    let ways = Way::ALL.map(Way::name);
    let lines = Line::ALL.map(Line::name);
    vec![
        by(played, "leak-forms", "By form", |c| two(place(&ways, c.way.name()), c.way.name())),
        by(played, "leak-lines", "By line between customer and Tonewall", |c| {
            two(place(&lines, c.line.name()), c.line.name())
        }),
        by(played, "leak-codecs", "By codec", |c| codec_name(c.codec)),
        by(played, "leak-masks", "By mask", |c| {
            two(MASKS.iter().position(|m| *m == c.mask).unwrap_or(0), &format!("{:?}", c.mask).to_lowercase())
        }),
        by(played, "leak-ptimes", "By packet time", |c| format!("{} ms", c.ptime_ms)),
        by(played, "leak-grades", "By grade of tone", |c| c.grade.name().to_owned()),
    ]
}

/// Form by line for one codec: right guesses at the agent's ear, and what was collected.
pub fn cells(played: &[Played], codec: Codec) -> [Table; 2] {
    let name = codec_name(codec);
    let columns: Vec<&str> = std::iter::once("line").chain(Way::ALL.map(Way::name)).chain(["met"]).collect();
    let mut right = Table::new(
        &format!("leak-cells-{}", name.to_lowercase()),
        &format!("{name}: least squares at the agent's ear, right of all, by line and form"),
        &columns,
    );
    let mut once = Table::new(
        &format!("collected-cells-{}", name.to_lowercase()),
        &format!("{name}: keys collected once, of those that came through, by line and form"),
        &columns,
    );
    let limit = FALSE_ALARM / (Way::ALL.len() * Line::ALL.len()) as f64;
    for line in Line::ALL {
        let (mut guesses, mut collected) = (vec![Cell::from(line.name())], vec![Cell::from(line.name())]);
        let (mut chance, mut exact) = (true, true);
        for way in Way::ALL {
            let cell =
                |(case, _): &&Played| case.guarded && case.way == way && case.line == line && case.codec == codec;
            let score = sum(played.iter().filter(cell));
            let seen = score.ear.least_squares.rate();
            chance &= by_chance(seen) >= limit;
            exact &= is_exact(&score.collected);
            guesses.push(if seen.of == 0 { Cell::Nothing } else { format!("{}/{}", seen.hits, seen.of).into() });
            let got = score.collected;
            let came = got.came;
            let wrong = if got.wrong + got.miscounted == 0 {
                String::new()
            } else {
                format!(" +{}", got.wrong + got.miscounted)
            };
            let all = came - got.missed.min(came);
            collected.push(if came == 0 { Cell::Nothing } else { format!("{all}/{came}{wrong}").into() });
        }
        right.row(guesses.into_iter().chain([chance.into()]));
        once.row(collected.into_iter().chain([exact.into()]));
    }
    [right, once]
}

/// What is left of the tones by time around the onset, with and without the guard.
pub fn plot(played: &[Played], subtitle: &str) -> Plot {
    let of = |guarded: bool, sink: fn(&Score) -> &Sink| {
        let sum = sum(played.iter().filter(|(case, _)| case.guarded == guarded));
        curve(&sink(&sum).residual)
    };
    let mut plot = Plot::new(
        "leak-residual",
        "What is left of a tone, by time around its onset",
        Axis::new("ms from the onset to a window of 10 ms", -40.0, 200.0),
        Axis::log("E/σ² of the window", 0.01, 10_000.0),
    );
    plot.subtitle = subtitle.to_owned();
    plot.series.push(Series::new("guard off, ear", of(false, |score| &score.ear)));
    plot.series.push(Series::new("guard on, ear", of(true, |score| &score.ear)));
    plot.series.push(Series::new("guard on, recording", of(true, |score| &score.tape)));
    plot.levels.push((MOST_RESIDUAL, "bar: 0.5 (12 % right guesses)".to_owned()));
    plot
}

fn curve(residual: &Residual) -> Vec<(f64, f64)> {
    residual.short.iter().enumerate().map(|(n, mean)| (delay_ms(n), mean.mean().max(0.01))).collect()
}

/// Right guesses by line, with and without the guard.
pub fn lines_plot(played: &[Played], subtitle: &str) -> Plot {
    let mut plot = Plot::new(
        "leak-lines",
        "Keys recovered at the agent's ear, by line",
        Axis::new(
            "line: 0 clean, 1–3 loss 1, 5, 10 %, 4 bursts, 5 reorder, 6 duplicates, 7–8 jitter 20, 60 ms, 9 all",
            0.0,
            9.0,
        ),
        Axis::percent("right of ten keys (%)"),
    );
    plot.subtitle = subtitle.to_owned();
    for (name, guarded) in [("guard off", false), ("guard on", true)] {
        let mut points = Vec::new();
        let mut bounds = Vec::new();
        for (n, line) in Line::ALL.into_iter().enumerate() {
            let wanted = |(case, _): &&Played| case.guarded == guarded && case.line == line && sounds(case.way);
            let rate = sum(played.iter().filter(wanted)).ear.least_squares.rate();
            let (low, high) = rate.wilson();
            if rate.of > 0 {
                points.push((n as f64, rate.percent()));
                bounds.push((100.0 * low, 100.0 * high));
            }
        }
        plot.series.push(Series::new(name, points).bounds(bounds));
    }
    plot.levels.push((12.0, "bar: 12 %".to_owned()));
    plot
}

/// Permutation tests by feature and form; adjusted over the whole table. The control must find something in every form.
pub fn permutation(name: &str, title: &str, forms: &[(&str, usize, Vec<Finding>)], control: bool) -> Table {
    let mut all: Vec<Finding> = forms.iter().flat_map(|(.., findings)| findings.clone()).collect();
    adjust(all.iter_mut());
    let columns: Vec<&str> = std::iter::once("feature")
        .chain(forms.iter().map(|(form, ..)| *form))
        .chain(["least adjusted p", "met"])
        .collect();
    let mut table = Table::new(name, title, &columns);
    let live = all.iter().filter(|f| f.distinct > 1).count();
    let below = all.iter().filter(|f| f.distinct > 1 && f.p < BAR).count();
    let counts: Vec<String> = forms.iter().map(|(form, count, _)| format!("{form} {count}")).collect();
    let must = if control {
        "What passes openly must be found: p below 0.001 for some feature in every form."
    } else {
        "Adjusted after Holm over the table, every row must be at 0.01 or above."
    };
    table.note = format!(
        "p-values of up to {SHUFFLES} shuffles within calls; – where a feature never varies and so tells nothing. {below} of\n\
         {live} are below {BAR} by themselves, {:.1} would be by chance. {must}\n\
         Moments on the agent's RTP: {}.",
        live as f64 * BAR,
        counts.join(", ")
    );
    let rows = forms.first().map_or(0, |(.., findings)| findings.len());
    let found = |form: usize| (0..rows).any(|row| all[form * rows + row].p < 0.001);
    for row in 0..rows {
        let each: Vec<&Finding> = (0..forms.len()).map(|form| &all[form * rows + row]).collect();
        let least = each.iter().map(|f| f.adjusted).fold(1.0, f64::min);
        let p = |f: &&Finding| if f.distinct > 1 { Cell::Number(f.p, 5) } else { Cell::Nothing };
        let cells = std::iter::once(Cell::from(each.first().map_or("", |f| f.feature.as_str())));
        let met = if control { Cell::Nothing } else { (least >= BAR).into() };
        table.row(cells.chain(each.iter().map(p)).chain([Cell::Number(least, 4), met]));
    }
    if control {
        let each = (0..forms.len()).map(|form| Cell::from(if found(form) { "found" } else { "not found" }));
        let met = !forms.is_empty() && (0..forms.len()).all(found);
        table.row(std::iter::once(Cell::from("some feature")).chain(each).chain([Cell::Nothing, met.into()]));
    }
    table
}
