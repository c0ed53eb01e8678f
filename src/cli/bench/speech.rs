//! Recorded speech to measure on: WAV files of Debian's free packages or of any directory. Finds and reads them; fetches
//! the packages when asked, with `apt-get` and `dpkg-deb`, without being root and without installing anything.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::testkit::lab::resample::resample;

/// Debian's packages with speech under free licences.
pub const PACKAGES: [&str; 7] = [
    "asterisk-core-sounds-en-wav",
    "asterisk-core-sounds-es-wav",
    "asterisk-core-sounds-fr-wav",
    "asterisk-core-sounds-it-wav",
    "asterisk-core-sounds-ru-wav",
    "codec2-examples",
    "pocketsphinx-testdata",
];

/// Where the packages put their files, installed or unpacked.
const PLACES: [&str; 3] = ["usr/share/asterisk/sounds", "usr/share/codec2", "usr/share/pocketsphinx"];

/// One recording.
pub struct Clip {
    /// Directory of its collection, for tables.
    pub group: String,
    /// Whether somebody speaks: prompts come with beeps, chimes and a cageful of monkeys.
    pub speech: bool,
    /// 8 kHz samples.
    pub samples: Vec<i16>,
}

/// Recordings.
pub struct Corpus {
    /// Where they were found.
    pub from: PathBuf,
    /// In the order of their paths.
    pub clips: Vec<Clip>,
}

/// What can be heard on this machine: `dir`, or `TONEWALL_SPEECH`, or what was fetched before, or what is installed.
pub fn found(dir: Option<&Path>) -> Result<Corpus, String> {
    let named = dir.map(Path::to_owned).or_else(|| std::env::var_os("TONEWALL_SPEECH").map(PathBuf::from));
    if let Some(dir) = named {
        let clips = read(std::slice::from_ref(&dir));
        return if clips.is_empty() {
            Err(format!("no WAV of 8 or 16 kHz, 16 bits, one channel under {}", dir.display()))
        } else {
            Ok(Corpus { from: dir, clips })
        };
    }
    let roots = cache().into_iter().chain([PathBuf::from("/")]);
    for root in roots {
        let clips = read(&PLACES.map(|place| root.join(place)));
        if !clips.is_empty() {
            return Ok(Corpus { from: root, clips });
        }
    }
    Err("none is here; `tonewall bench talkoff --install` fetches some".to_owned())
}

/// Where fetched speech is kept.
pub fn cache() -> Option<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|p| p.is_absolute());
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
    base.or_else(home).map(|base| base.join("tonewall").join("speech"))
}

/// Downloads the packages and unpacks them into the cache; tells each step.
pub fn install(mut say: impl FnMut(&str) -> io::Result<()>) -> io::Result<()> {
    let root = cache().ok_or_else(|| io::Error::other("neither XDG_CACHE_HOME nor HOME says where to keep speech"))?;
    let parcels = root.join("packages");
    std::fs::create_dir_all(&parcels)?;
    say(&format!(
        "fetching {} with apt-get download (111 MB, once), unpacking into {} with dpkg-deb; nothing is installed",
        PACKAGES.join(", "),
        root.display()
    ))?;
    let mut failed = Vec::new();
    for package in PACKAGES {
        // One by one: what cannot be had must not keep the rest away.
        let fetched = Command::new("apt-get").args(["-qq", "download", package]).current_dir(&parcels).output();
        let fetched =
            fetched.map_err(|e| io::Error::other(format!("apt-get cannot be run ({e}); --install needs Debian")))?;
        let newest = std::fs::read_dir(&parcels)?
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(&format!("{package}_"))))
            .max();
        let unpacked = match newest {
            Some(parcel) => Command::new("dpkg-deb").arg("-x").arg(&parcel).arg(&root).status()?.success(),
            None => false,
        };
        if !unpacked {
            let why = String::from_utf8_lossy(&fetched.stderr);
            failed.push(format!("{package}: {}", why.lines().last().unwrap_or("no such package")));
        }
    }
    for why in &failed {
        say(&format!("!!! NOT HERE: {why}"))?;
    }
    if failed.len() == PACKAGES.len() { Err(io::Error::other("no package could be fetched")) } else { Ok(()) }
}

/// Every readable recording under the directories.
fn read(dirs: &[PathBuf]) -> Vec<Clip> {
    let mut clips = Vec::new();
    for dir in dirs {
        gather(dir, &mut clips);
    }
    clips
}

fn gather(dir: &Path, clips: &mut Vec<Clip>) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|e| e.path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            gather(&path, clips);
        } else if path.extension().is_some_and(|e| e == "wav") {
            clips.extend(clip(&path));
        }
    }
}

fn clip(path: &Path) -> Option<Clip> {
    let mut wav = hound::WavReader::open(path).ok()?;
    let spec = wav.spec();
    let plain = spec.channels == 1 && spec.bits_per_sample == 16 && spec.sample_format == hound::SampleFormat::Int;
    let ratio = match spec.sample_rate {
        8_000 => None,
        16_000 => Some(2.0),
        _ => return None,
    };
    if !plain {
        return None;
    }
    let samples: Vec<i16> = wav.samples::<i16>().map_while(Result::ok).collect();
    let samples = ratio.map_or_else(|| samples.clone(), |ratio| resample(&samples, ratio));
    Some(Clip { group: group(path), speech: is_speech(path), samples })
}

/// The collection a file belongs to: `it_IT_m_Carlo`, `codec2`, `librivox`, or its directory.
fn group(path: &Path) -> String {
    let names: Vec<String> = path.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    let after = |name: &str| names.iter().position(|n| n == name).and_then(|at| names.get(at + 1).cloned());
    let named = after("sounds").or_else(|| names.iter().find(|n| *n == "codec2" || *n == "pocketsphinx").cloned());
    named.or_else(|| names.iter().rev().nth(1).cloned()).unwrap_or_default()
}

fn is_speech(path: &Path) -> bool {
    let name = path.file_stem().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let noise = ["confbridge-join", "confbridge-leave", "tt-monkeys"];
    let silent = path.iter().any(|part| part == "silence");
    !(name.starts_with("beep") || name.ends_with("2tone") || noise.contains(&name.as_str()) || silent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recordings_are_found_grouped_and_told_from_beeps() {
        let dir = tempfile::tempdir().expect("a directory");
        let root = dir.path().join("sounds/xx_YY_Somebody");
        std::fs::create_dir_all(root.join("silence")).expect("directories");
        let write = |name: &str, rate: u32, channels: u16| {
            let spec = hound::WavSpec {
                channels,
                sample_rate: rate,
                bits_per_sample: 16,
                sample_format: hound::SampleFormat::Int,
            };
            let mut wav = hound::WavWriter::create(root.join(name), spec).expect("a file");
            (0..1_600).for_each(|n| wav.write_sample(n as i16).expect("written"));
            wav.finalize().expect("written");
        };
        write("hello.wav", 8_000, 1);
        write("wide.wav", 16_000, 1);
        write("beep.wav", 8_000, 1);
        write("stereo.wav", 8_000, 2);
        write("music.wav", 44_100, 1);
        write("silence/1.wav", 8_000, 1);
        std::fs::write(root.join("broken.wav"), b"RIFF").expect("written");
        let corpus = found(Some(dir.path())).expect("speech");
        let told: Vec<(usize, bool)> = corpus.clips.iter().map(|c| (c.samples.len(), c.speech)).collect();
        assert_eq!(told, [(1_600, false), (1_600, true), (1_600, false), (800, true)]);
        assert!(corpus.clips.iter().all(|c| c.group == "xx_YY_Somebody"));
        assert!(found(Some(&root.join("nowhere"))).is_err());
    }
}
