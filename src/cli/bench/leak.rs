//! `tonewall bench leak`: random digits through a real node on loopback sockets, in every form, over every line, behind
//! every mask; attackers at everything that comes out, and the same attackers with the guard off beside them.

use std::io;

use rand::SeedableRng;

use super::{Common, Report};
use crate::base::Random;
use crate::config::{Codec, GuardMode, MaskKind};
use crate::rt::crew;
use crate::rt::leaklab::{self, Failure, Office, Texts};
use crate::rt::logging::Captured;
use crate::testkit::keys::Sent;
use crate::testkit::lab::Table;
use crate::testkit::lab::leak::cases::{Case, PER_CALL, Plan};
use crate::testkit::lab::leak::moments::{self, Course, FORMS, HIDING, Shapes, TELLING};
use crate::testkit::lab::leak::permutation::SHUFFLES;
use crate::testkit::lab::leak::report::{self, Played};
use crate::testkit::lab::leak::score::Judge;
use crate::testkit::lab::leak::virtually;
use crate::testkit::spandsp::Spandsp;

/// Codecs of the customers' telephones.
const CODECS: [Codec; 4] = [Codec::Pcmu, Codec::Pcma, Codec::G722, Codec::Opus];

/// Calls that are also played in virtual time, at most.
const VIRTUAL: usize = 150;
/// Stretches of 5 s of each call in the permutation tests.
const STRETCHES: u32 = 8;

/// How much to measure.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    common: Common,
    /// Digits sent through the guarded node, at least [default: 20800, quick 2080].
    #[arg(long)]
    digits: Option<usize>,
    /// Calls at once.
    #[arg(long, default_value_t = 100)]
    at_once: usize,
}

/// Measures; whether every bar is met.
pub fn run(arguments: &Arguments) -> io::Result<bool> {
    let common = &arguments.common;
    let mut report = Report::new("leak", common)?;
    let library = match Spandsp::load() {
        Ok(library) => Some(library),
        Err(why) => {
            report
                .fact(&format!("!!! NOT HERE: SpanDSP takes no part ({why}; Debian: apt-get install libspandsp2)"))?;
            None
        }
    };
    let judge = Judge::new(library);
    let digits = arguments.digits.unwrap_or(if common.quick { 2_080 } else { 20_800 });
    let plan = Plan { digits, per_call: PER_CALL, codecs: CODECS.to_vec(), control_every: 4, seed: common.seed };
    let cases = plan.cases();
    let (played, texts) = play(&mut report, &cases, arguments.at_once.max(1), &judge)?;
    let guarded = played.iter().filter(|(case, _)| case.guarded).count();
    report.fact(&format!(
        "{} digits in {guarded} calls with the guard on, {} in {} with it off; {} at once",
        played.iter().filter(|(case, _)| case.guarded).map(|(_, score)| score.keyed).sum::<u64>(),
        played.iter().filter(|(case, _)| !case.guarded).map(|(_, score)| score.keyed).sum::<u64>(),
        played.len() - guarded,
        arguments.at_once
    ))?;
    let disturbed: u64 = played.iter().map(|(_, score)| score.collected.disturbed).sum();
    report.fact(&format!(
        "{disturbed} of the guarded calls were held up by this machine beyond what any line does (150 ms); what was \
         collected is judged in the others, what came out in all"
    ))?;
    for table in l1_and_l2(&played, Some((texts.bytes, texts.told)), &plan.codecs, common.seed) {
        report.table(table)?;
    }
    let some = &cases[..cases.len().min(VIRTUAL)];
    let alone = play_virtually(&report, some, &judge);
    for mut table in l1_and_l2(&alone, None, &[], common.seed) {
        table.name += "-virtual";
        table.title = format!("In virtual time, no machine in between: {}", table.title);
        report.table(table)?;
    }
    tells(&mut report, arguments)?;
    let subtitle = format!("{} calls, seed {}, real sockets on loopback", played.len(), common.seed);
    report.plot(report::plot(&played, &subtitle));
    report.plot(report::lines_plot(&played, &subtitle));
    report.finish()
}

/// The tables of a run.
fn l1_and_l2(played: &[Played], texts: Option<(usize, usize)>, codecs: &[Codec], seed: u64) -> Vec<Table> {
    let mut random = Random::seed_from_u64(seed);
    let mut all = vec![report::attackers(played, &mut random), report::residuals(played)];
    all.push(report::decoders(played, texts));
    all.extend(report::parts(played));
    all.extend(report::inexact(played));
    all.extend(codecs.iter().flat_map(|codec| report::cells(played, *codec)));
    all
}

/// The same cases in virtual time.
fn play_virtually(report: &Report, cases: &[Case], judge: &Judge) -> Vec<Played> {
    let bar = report.progress("the same in virtual time", cases.len());
    let played = crew::each(cases, |case| {
        let score = judge.judge(case, &virtually::play(case, leaklab::now()));
        bar.inc(1);
        (case.clone(), score)
    });
    bar.finish_and_clear();
    played
}

/// The permutation tests, in virtual time and on the sockets.
fn tells(report: &mut Report, arguments: &Arguments) -> io::Result<()> {
    let (quick, seed) = (arguments.common.quick, arguments.common.seed);
    let (virtually, really) = if quick { (1, 1) } else { (4, 4) };
    let (hiding, all) = (courses(&HIDING, virtually), courses(&[HIDING, TELLING].concat(), virtually));
    let open: Vec<Course> =
        courses(&HIDING[..1], virtually).into_iter().map(|course| Course { guard: GuardMode::Off, ..course }).collect();
    let bar = report.progress("permutation tests", hiding.len() + all.len() + open.len());
    let shapes = |courses: &[Course], stream: u64| {
        let numbered: Vec<(u32, &Course)> = (0..).zip(courses).collect();
        crew::each(&numbered, |(n, course)| {
            bar.inc(1);
            moments::play(course, (seed << 24) ^ (stream << 16) ^ u64::from(*n), leaklab::now(), *n)
        })
    };
    let played = [(&hiding, shapes(&hiding, 1)), (&all, shapes(&all, 2)), (&open, shapes(&open, 3))];
    bar.finish_and_clear();
    for table in tables("virtual", "virtual time", played, seed) {
        report.table(table)?;
    }
    let (hiding, all) = (courses(&HIDING, really), courses(&[HIDING, TELLING].concat(), really));
    let open: Vec<Course> =
        courses(&HIDING[..1], really).into_iter().map(|course| Course { guard: GuardMode::Off, ..course }).collect();
    let failed = |failure: Failure| io::Error::other(failure.to_string());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let every = [hiding.clone(), all.clone(), open.clone()].concat();
    let shapes = runtime.block_on(async {
        let mut office = Office::open(every.len(), &CODECS).await?;
        office.shapes(&every, seed).await
    });
    let mut shapes = shapes.map_err(failed)?;
    let last = shapes.split_off(hiding.len() + all.len());
    let middle = shapes.split_off(hiding.len());
    for table in tables("sockets", "real sockets", [(&hiding, shapes), (&all, middle), (&open, last)], seed) {
        report.table(table)?;
    }
    Ok(())
}

/// Courses of each form behind each mask, so many calls of each.
fn courses(masks: &[MaskKind], calls: usize) -> Vec<Course> {
    let forms = FORMS.iter().flat_map(|(_, form)| masks.iter().map(move |mask| (*form, *mask)));
    let course = |(form, mask)| Course { form, mask, guard: GuardMode::Always, stretches: STRETCHES };
    forms.flat_map(|both| std::iter::repeat_n(course(both), calls)).collect()
}

/// Whether, which, and the control.
fn tables(name: &str, where_: &str, played: [(&Vec<Course>, Vec<Shapes>); 3], seed: u64) -> [Table; 3] {
    let mut random = Random::seed_from_u64(seed ^ 0x5eed);
    let mut by_form = |(courses, shapes): &(&Vec<Course>, Vec<Shapes>), which: bool| {
        let each = FORMS.iter().map(|(form_name, form)| {
            let mut sum = Shapes::default();
            for (_, shapes) in courses.iter().zip(shapes).filter(|(course, _)| course.form == *form) {
                sum.extend(shapes);
            }
            let (count, findings) = if which {
                (sum.rtp.which.len(), sum.which(SHUFFLES, &mut random))
            } else {
                // The control's features lie at the smallest p-value there is; a few shuffles show it.
                let control = courses.iter().any(|course| course.guard == GuardMode::Off);
                (sum.rtp.whether.len(), sum.whether(if control { 4_999 } else { SHUFFLES }, &mut random))
            };
            (*form_name, count, findings)
        });
        each.collect::<Vec<_>>()
    };
    let [hiding, all, open] = &played;
    let told = by_form(open, false);
    // An INFO leaves nothing in the media: its control is that the PBX got it.
    let told: Vec<_> = told.into_iter().filter(|(form, ..)| !["INFO", "tone"].contains(form)).collect();
    [
        report::permutation(
            &format!("leak-whether-{name}"),
            &format!(
                "R22, {where_}: does the shape of what comes out tell that a key was pressed (silence, comfort noise)?"
            ),
            &by_form(hiding, false),
            false,
        ),
        report::permutation(
            &format!("leak-which-{name}"),
            &format!("R22, {where_}: does it tell which key was pressed (all masks)?"),
            &by_form(all, true),
            false,
        ),
        report::permutation(
            &format!("leak-control-{name}"),
            &format!("R22, {where_}: the control, guard off: that a key was pressed must be found"),
            &told,
            true,
        ),
    ]
}

/// Plays all cases, so many at once, and judges each lot before the next.
fn play(report: &mut Report, cases: &[Case], at_once: usize, judge: &Judge) -> io::Result<(Vec<Played>, Texts)> {
    let failed = |failure: Failure| io::Error::other(failure.to_string());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let keys: usize = cases.iter().map(|case| case.digits).sum();
    let bar = report.progress("keys pressed", keys);
    let log = Captured::start();
    let (mut played, mut texts) = (Vec::with_capacity(cases.len()), Texts::default());
    let mut before = 0;
    for lot in cases.chunks(at_once) {
        let mut tell = |pressed: usize| bar.set_position((before + pressed) as u64);
        let evidence = runtime.block_on(async {
            let mut office = Office::open(lot.len(), &CODECS).await?;
            let evidence = office.play(lot, &mut tell).await?;
            let keyed: Vec<&[Sent]> = evidence.iter().map(|(_, evidence)| evidence.keyed.as_slice()).collect();
            texts += office.end(&log, &keyed).await?;
            Ok(evidence)
        });
        let evidence = evidence.map_err(failed)?;
        before += lot.iter().map(|case| case.digits).sum::<usize>();
        bar.set_message("attacking");
        let scores = crew::each(&evidence, |(case, evidence)| ((*case).clone(), judge.judge(case, evidence)));
        bar.set_message("keys pressed");
        played.extend(scores);
    }
    bar.finish_and_clear();
    Ok((played, texts))
}
