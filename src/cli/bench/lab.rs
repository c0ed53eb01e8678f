//! What the experiments share: the report, the peer, the sizes, the speech, and trials on all cores.

use std::io;
use std::path::Path;

use super::speech;
use super::{Common, Report};
use crate::dtmf::inband::Point;
use crate::rt::crew;
use crate::testkit::lab::Cell;
use crate::testkit::lab::hear::{Count, Packets, Three, ours, spandsp};
use crate::testkit::lab::stimuli::Stimulus;
use crate::testkit::spandsp::Spandsp;
use crate::testkit::speech::Talker;

/// A voice to speak over digits, with its name.
pub struct Voice {
    /// For tables.
    pub name: &'static str,
    /// 8 kHz samples.
    pub samples: Vec<i16>,
}

/// An experiment under way.
pub struct Lab {
    /// Where results go.
    pub report: Report,
    library: Option<Spandsp>,
    quick: bool,
    seed: u64,
}

impl Lab {
    /// Begins; says so when SpanDSP is missing.
    pub fn new(mut report: Report, common: &Common) -> io::Result<Self> {
        let library = match Spandsp::load() {
            Ok(library) => Some(library),
            Err(why) => {
                let advice = "its columns stay empty; Debian: apt-get install libspandsp2";
                report.fact(&format!("!!! NOT HERE: SpanDSP ({why}); {advice}"))?;
                None
            }
        };
        Ok(Self { report, library, quick: common.quick, seed: common.seed })
    }

    /// SpanDSP, where it is installed.
    pub fn spandsp(&self) -> Option<&Spandsp> {
        self.library.as_ref()
    }

    /// One of two sizes.
    pub fn size(&self, full: usize, quick: usize) -> usize {
        if self.quick { quick } else { full }
    }

    /// The seed of trial `n` of `what`: trials of different experiments share no stimulus.
    pub fn seed(&self, what: &str, n: u64) -> u64 {
        let start = 0xcbf2_9ce4_8422_2325u64 ^ self.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mixed = what.bytes().fold(start, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        mixed.wrapping_add(n.wrapping_mul(0xd134_2543_de82_ef95))
    }

    /// Plays about so many digits of a stimulus to all receivers.
    pub fn three(&self, what: &str, stimulus: &Stimulus<'_>, digits: usize) -> Three {
        let lines = digits.div_ceil(stimulus.plan.presses.max(1));
        let seeds: Vec<u64> = (0..lines as u64).map(|n| self.seed(what, n)).collect();
        let bar = self.report.progress(what.to_owned(), lines);
        let all = crew::each(&seeds, |seed| {
            let (line, packets) = stimulus.draw(*seed);
            bar.inc(1);
            Three::hear(&line.keys(), &line.samples, &packets, self.spandsp())
        });
        bar.finish_and_clear();
        all.into_iter().sum()
    }

    /// The receivers' names and what each makes of a line, as keys.
    pub fn receivers(&self) -> Vec<(&'static str, Box<Receiver<'_>>)> {
        let mut all: Vec<(&'static str, Box<Receiver<'_>>)> = vec![
            ("armed", Box::new(|line| ours(Point::Armed, line, &Packets::default()).keys())),
            ("unarmed", Box::new(|line| ours(Point::Unarmed, line, &Packets::default()).keys())),
        ];
        if let Some(library) = &self.library {
            all.push(("SpanDSP", Box::new(move |line| spandsp(library, line, &Packets::default()).keys())));
        }
        all
    }

    /// The voices to speak over digits: our own talker, and recorded speech where there is any.
    pub fn voices(&mut self, dir: Option<&Path>) -> io::Result<Vec<Voice>> {
        let talkers: Vec<u64> = (0..self.size(60, 12) as u64).map(|n| self.seed("talker", n)).collect();
        let said = crew::each(&talkers, |seed| Talker::new(*seed, -18.0).say(30 * 8_000)).concat();
        let mut voices = vec![Voice { name: "synthetic talker", samples: said }];
        match speech::found(dir) {
            Ok(corpus) => {
                let samples: Vec<i16> = corpus.clips.into_iter().filter(|c| c.speech).flat_map(|c| c.samples).collect();
                self.report.fact(&format!(
                    "recorded speech from {}: {:.1} min",
                    corpus.from.display(),
                    samples.len() as f64 / 480_000.0
                ))?;
                voices.push(Voice { name: "recorded speech", samples });
            }
            Err(why) => self.report.fact(&format!("!!! SKIPPED: recorded speech ({why}); the own talker stands in"))?,
        }
        Ok(voices)
    }
}

/// A receiver: a line in, keys out.
pub type Receiver<'a> = dyn Fn(&[i16]) -> String + Sync + 'a;

/// The headings over [`cells`] of each receiver.
pub const HEADS: [&str; 6] = ["armed", "armed +", "unarmed", "unarmed +", "SpanDSP", "SpanDSP +"];

/// Two cells of a count: the share told rightly, and how many too many.
pub fn cells(count: Option<Count>) -> [Cell; 2] {
    [count.map(Count::right).into(), count.map(|c| c.extra).into()]
}
