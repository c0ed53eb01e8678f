//! `tonewall demo`: plays a payment call on this machine and shows it, then sets attackers on what the agent heard and
//! on the exported recording. Exit status 0 only if every digit was collected and nothing leaked.

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use super::recordings::{self, Terminal};
use crate::config::Storage;
use crate::record::keys::KeyRing;
use crate::record::place;
use crate::rt::audit::Guest;
use crate::rt::demo::{Demo, Failure, Played, Told};
use crate::rt::keys::Keys;
use crate::testkit::keys::{Form, Sent};
use crate::testkit::leak::{Attackers, Findings, lag};
use crate::web::{Check, Verdict};

/// Something leaked, or not every digit was collected.
pub const EXIT_LEAKED: u8 = 2;

/// Of 16 guesses at ten digits, more right ones than this are no chance (less than once in two thousand runs).
const LUCK: usize = 6;

/// Time for a person to open the page.
const HEAD_START: Duration = Duration::from_secs(5);

/// What to do.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// Stay up after the verdict, with the page, until Ctrl-C.
    #[arg(long)]
    stay: bool,
    /// Port of the live page on 127.0.0.1; any free one by default.
    #[arg(long, default_value_t = 0)]
    port: u16,
}

/// Plays the demo on standard output.
pub fn run(arguments: &Arguments) -> ExitCode {
    let mut out = io::stdout();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let done = runtime.map_err(Problem::Output).and_then(|runtime| {
        let verdict = runtime.block_on(demo(arguments, &mut out));
        // Sleeping telephones need no farewell.
        runtime.shutdown_background();
        verdict
    });
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(EXIT_LEAKED),
        Err(problem) => {
            let _ = writeln!(io::stderr(), "the demo could not be played: {problem}");
            ExitCode::from(super::EXIT_FAILED)
        }
    }
}

/// Why there is no verdict.
#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error(transparent)]
    Demo(#[from] Failure),
    #[error("{0}")]
    Output(#[from] io::Error),
    #[error("the recording cannot be exported: {0}")]
    Export(String),
}

async fn demo(arguments: &Arguments, out: &mut dyn Write) -> Result<bool, Problem> {
    writeln!(out, "\nTonewall demo: one payment call on this machine. Nothing leaves it.\n")?;
    let mut demo = Demo::start(arguments.port).await?;
    let mut screen = Screen { out, live: io::stdout().is_terminal(), open: false };
    for fact in demo.facts() {
        screen.tell(fact);
    }
    screen.line("")?;
    if screen.live || arguments.stay {
        screen.line(&format!("  Open the page to watch; the call begins in {} s.\n", HEAD_START.as_secs()))?;
        demo.hold_back(HEAD_START).await;
    }
    let played = demo.play(&mut |told| screen.tell(told)).await?;
    screen.line("\nListening in: decoders, and an attacker who knows when each key was pressed …")?;
    let (wav, channels) = export(&demo.dir, &demo.ring)?;
    let proof = Proof::new(&played, &channels, &demo.dir)?;
    demo.conclude(proof.verdict(&played));
    let sound = proof.print(&played, &wav, screen.out)?;
    if arguments.stay {
        screen.line(&format!("\nStill up: {}   Ctrl-C ends it.", demo.page()))?;
        tokio::signal::ctrl_c().await?;
    }
    demo.end().await;
    Ok(sound)
}

/// Where the story is shown. On a terminal, progress is redrawn in place.
struct Screen<'a> {
    out: &'a mut dyn Write,
    live: bool,
    open: bool,
}

impl Screen<'_> {
    fn tell(&mut self, told: Told) {
        // A closed standard output must not end the call half-way; the exit status still tells.
        let _ = match told {
            Told::Fact(name, value) => self.line(&format!("  {name:<10} {value}")),
            Told::Step(at, text) => self.line(&format!("  {:>5.1} s  {text}", at.as_secs_f64())),
            Told::Progress(count, of) => self.progress(count, of),
        };
    }

    fn progress(&mut self, count: u32, of: u32) -> io::Result<()> {
        let marks: String = (0..of)
            .map(|n| if n < count { '•' } else { '·' })
            .collect::<Vec<char>>()
            .chunks(4)
            .map(|group| group.iter().collect::<String>())
            .collect::<Vec<_>>()
            .join(" ");
        let line = format!("           {marks}   {count} of {of} collected");
        if self.live {
            write!(self.out, "\r{line}")?;
            self.open = true;
            self.out.flush()
        } else if count.is_multiple_of(4) {
            writeln!(self.out, "{line}")
        } else {
            Ok(())
        }
    }

    fn line(&mut self, text: &str) -> io::Result<()> {
        if std::mem::take(&mut self.open) {
            writeln!(self.out)?;
        }
        writeln!(self.out, "{text}")?;
        self.out.flush()
    }
}

/// Exports the one recording as an owner of the key can, and gives its two sides.
fn export(dir: &Path, ring: &KeyRing) -> Result<(PathBuf, [Vec<i16>; 2]), Problem> {
    let root = dir.join("recordings");
    let newest = files(&root)?.into_iter().filter_map(|f| Some((f.metadata().ok()?.modified().ok()?, f)));
    let recording = newest
        .filter_map(|(at, file)| place::recording_of(&file).map(|recording| (at, recording)))
        .max_by_key(|(at, _)| *at)
        .map(|(_, recording)| recording)
        .ok_or_else(|| Problem::Export("there is none".to_owned()))?;
    let wav = dir.join(format!("{recording}.wav"));
    let (mut said, mut complaints) = (Vec::new(), Vec::new());
    let command = recordings::Command::Export { recording, output: wav.clone(), force: false, purpose: None };
    let storage = Storage::local(root, dir.join("payments.db"));
    let site = recordings::Site { storage, keys: Keys::fixed(ring.clone()), log: None };
    let mut terminal = Terminal { out: &mut said, err: &mut complaints, progress: false };
    if recordings::run(&command, &site, &Guest::off(), &mut terminal) != recordings::EXIT_INTACT {
        return Err(Problem::Export(String::from_utf8_lossy(&complaints).trim().to_owned()));
    }
    let mut reader = hound::WavReader::open(&wav).map_err(|e| Problem::Export(e.to_string()))?;
    let samples: Vec<i16> =
        reader.samples().collect::<Result<_, _>>().map_err(|e: hound::Error| Problem::Export(e.to_string()))?;
    let side = |which: usize| samples.iter().skip(which).step_by(2).copied().collect();
    Ok((wav, [side(0), side(1)]))
}

/// Every file under `dir`.
fn files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push(path);
        }
    }
    Ok(found)
}

/// What was heard from a second before the first key to a second after the last, and where it begins. Decoders are set
/// on this stretch: elsewhere there is only speech, in which an ordinary decoder now and then hears a digit of its own.
fn around<'a>(heard: &'a [i16], keyed: &[Sent], lag: i64) -> (&'a [i16], i64) {
    let place = |at: u64, by: i64| usize::try_from(at as i64 - lag + by).unwrap_or(0).min(heard.len());
    let from = keyed.first().map_or(0, |key| place(key.onset, -8_000));
    let to = keyed.last().map_or(heard.len(), |key| place(key.end, 8_000));
    (&heard[from..to.max(from)], from as i64)
}

/// Whether every digit was collected, once and in order.
fn complete(played: &Played) -> bool {
    let collected = played.collected;
    collected.same && collected.luhn && collected.count == played.keyed.len()
}

/// What the attackers and the searches found.
struct Proof {
    line: Findings,
    ear: Findings,
    recording: Findings,
    spandsp_missing: Option<String>,
    files: usize,
    files_with_card: usize,
    tones: usize,
}

impl Proof {
    fn new(played: &Played, [customer, agent]: &[Vec<i16>; 2], dir: &Path) -> Result<Proof, Problem> {
        let attackers = Attackers::new();
        // What was said before the keys shows how far each listener's time lags behind the caller's.
        let lag_of = |heard: &[i16]| lag(&played.spoken, heard, 16_000);
        let attack = |heard: &[i16], lag: Option<i64>| match lag {
            Some(lag) => {
                let (around, from) = around(heard, &played.keyed, lag);
                attackers.attack(around, &played.keyed, lag + from)
            }
            None => attackers.listen(heard),
        };
        let lag = lag_of(customer);
        let mut recording = attack(customer, lag);
        recording += attackers.listen(lag.map_or(agent.as_slice(), |lag| around(agent, &played.keyed, lag).0));
        let tones: Vec<Sent> = played.keyed.iter().filter(|k| k.press.form == Form::Tone).cloned().collect();
        let (line, from) = around(&played.spoken, &tones, 0);
        let card: Vec<u8> = played.keyed.iter().map(|k| k.press.digit.expose_char() as u8).collect();
        let files = files(dir)?;
        let mut files_with_card = 0;
        for file in &files {
            let bytes = fs::read(file)?;
            files_with_card += usize::from(bytes.windows(card.len()).any(|w| w == card));
        }
        Ok(Proof {
            line: attackers.attack(line, &tones, from),
            ear: attack(&played.heard, lag_of(&played.heard)),
            recording,
            spandsp_missing: attackers.missing().map(str::to_owned),
            files: files.len(),
            files_with_card,
            tones: tones.len(),
        })
    }

    /// Whether the attackers can hear at all: they do on the caller's own line.
    fn attackers_hear(&self) -> bool {
        self.line.decoded == self.tones && self.line.spandsp.is_none_or(|n| n > 0)
    }

    fn nothing_leaked(&self, played: &Played) -> bool {
        let quiet = |f: &Findings| f.nothing_decoded() && f.least_squares <= LUCK && f.places == played.keyed.len();
        quiet(&self.ear)
            && quiet(&self.recording)
            && played.agent_events == 0
            && played.texts_with_card == 0
            && self.files_with_card == 0
    }

    /// The verdict as the page shows it.
    fn verdict(&self, played: &Played) -> Verdict {
        let complete = complete(played);
        let sounds = |f: &Findings| f.nothing_decoded() && f.least_squares <= LUCK;
        let found = |f: &Findings| {
            let digits = f.decoded.max(f.spandsp.unwrap_or(0));
            format!("{digits} digits decoded; {} of {} guessed (chance {:.1})", f.least_squares, f.places, f.chance())
        };
        let check = |name: &str, passed, found| Check { name: name.to_owned(), passed, found };
        let keyed = played.keyed.len();
        let checks = vec![
            check(
                "Collected",
                complete,
                format!("{} of {keyed} digits, in order, Luhn-checked", played.collected.count),
            ),
            check("Agent's ear", sounds(&self.ear), found(&self.ear)),
            check("Recording", sounds(&self.recording), found(&self.recording)),
            check("Events and INFO to the agent", played.agent_events == 0, format!("{}", played.agent_events)),
            check(
                "Card number in messages and files",
                played.texts_with_card + self.files_with_card == 0,
                format!("in {} of {}", played.texts_with_card + self.files_with_card, played.texts + self.files),
            ),
            check("The attackers can hear", self.attackers_hear(), found(&self.line)),
        ];
        let passed = self.passed(played);
        let summary = self.sentence(played).to_owned();
        Verdict { passed, summary, checks }
    }

    fn passed(&self, played: &Played) -> bool {
        self.nothing_leaked(played) && complete(played) && self.attackers_hear()
    }

    /// The verdict in one sentence.
    fn sentence(&self, played: &Played) -> &'static str {
        match (self.nothing_leaked(played), complete(played), self.attackers_hear()) {
            (false, ..) => "LEAKED: digits, or enough of them to guess, got past Tonewall.",
            (_, false, _) => "INCOMPLETE: not every digit was collected.",
            (_, _, false) => "NO PROOF: the attackers did not even hear the caller's own line.",
            (true, true, true) => "Nothing leaked, and every digit was collected.",
        }
    }

    fn print(&self, played: &Played, wav: &Path, out: &mut dyn Write) -> io::Result<bool> {
        let collected = played.collected;
        let keyed = played.keyed.len();
        writeln!(out)?;
        writeln!(out, "  keyed       {}   ({} tones, {} events)", played.masked_card, self.tones, keyed - self.tones)?;
        writeln!(
            out,
            "  collected   {} of {keyed} digits, {}; Luhn check {}",
            collected.count,
            if collected.same { "each once and in order" } else { "NOT those that were keyed" },
            if collected.luhn { "passed" } else { "FAILED" }
        )?;
        writeln!(out)?;
        writeln!(out, "  {:<34}{:>10}{:>10}   attacker who knows each onset", "digits found in", "decoder", "spandsp")?;
        self.row(out, "the caller's own line (control)", &self.line)?;
        self.row(out, "the agent's ear", &self.ear)?;
        self.row(out, "the exported recording", &self.recording)?;
        if let Some(why) = &self.spandsp_missing {
            writeln!(out, "  (spandsp took no part: {why})")?;
        }
        writeln!(out)?;
        writeln!(out, "  events and INFO that reached the agent   {}", played.agent_events)?;
        writeln!(out, "  card number in SIP and API messages      {} of {}", played.texts_with_card, played.texts)?;
        writeln!(out, "  card number in files                     {} of {}", self.files_with_card, self.files)?;
        writeln!(out, "\n  recording   {}\n", wav.display())?;
        writeln!(out, "{}", self.sentence(played))?;
        out.flush()?;
        Ok(self.passed(played))
    }

    fn row(&self, out: &mut dyn Write, name: &str, found: &Findings) -> io::Result<()> {
        let spandsp = found.spandsp.map_or_else(|| "-".to_owned(), |n| n.to_string());
        writeln!(
            out,
            "  {name:<34}{:>10}{spandsp:>10}   {} of {} right (by chance {:.1})",
            found.decoded,
            found.least_squares,
            found.places,
            found.chance()
        )
    }
}
