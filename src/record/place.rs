//! Where a recording lies: `<root>/<UTC date>/<recording id>.sealed`, with its seal beside it. Names come only from
//! ids Tonewall drew (threats R29) and from the clock, never from the wire.

use std::path::{Path, PathBuf};

use crate::base::ids::RecordingId;
use crate::base::time::WallMs;

/// Extension of a sealed recording.
pub const SEALED: &str = "sealed";

/// Extension of the seal written when a recording is closed.
pub const SEAL: &str = "seal";

/// Extension of the notes: what is known of a recording besides its bytes.
pub const NOTES: &str = "notes";

/// A UTC calendar date and time of day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Utc {
    /// Year of the Gregorian calendar.
    pub year: u64,
    /// Month, 1–12.
    pub month: u64,
    /// Day of the month, 1–31.
    pub day: u64,
    /// Seconds since midnight.
    pub second_of_day: u64,
}

impl Utc {
    /// The date and time of a wall-clock instant (proleptic Gregorian, no leap seconds).
    pub fn of(at: WallMs) -> Self {
        let seconds = at.0 / 1000;
        // Days are counted from 1 March of year 0, so that the leap day is the last of its year.
        let days = seconds / 86_400 + 719_468;
        let era = days / 146_097;
        let day_of_era = days % 146_097;
        let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
        let year = era * 400 + year_of_era + u64::from(month <= 2);
        Self { year, month, day, second_of_day: seconds % 86_400 }
    }

    /// `2026-11-22`.
    pub fn date(&self) -> String {
        format!("{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }

    /// `2026-11-22 06:15:07`.
    pub fn date_time(&self) -> String {
        let s = self.second_of_day;
        format!("{} {:02}:{:02}:{:02}", self.date(), s / 3600, s / 60 % 60, s % 60)
    }
}

/// The directory under `root` for recordings started at `started`.
pub fn directory(root: &Path, started: WallMs) -> PathBuf {
    root.join(Utc::of(started).date())
}

/// The sealed file of a recording in its directory.
pub fn sealed_file(directory: &Path, recording: RecordingId) -> PathBuf {
    directory.join(format!("{recording}.{SEALED}"))
}

/// The seal beside a sealed file.
pub fn seal_file(sealed: &Path) -> PathBuf {
    sealed.with_extension(SEAL)
}

/// The notes beside a sealed file; they stay when it is gone.
pub fn notes_file(sealed: &Path) -> PathBuf {
    sealed.with_extension(NOTES)
}

/// The recording a path names, if it is the name of a sealed file.
pub fn recording_of(path: &Path) -> Option<RecordingId> {
    named(path, SEALED)
}

/// The recording a path names, if it is the name of notes.
pub fn recording_of_notes(path: &Path) -> Option<RecordingId> {
    named(path, NOTES)
}

fn named(path: &Path, extension: &str) -> Option<RecordingId> {
    if path.extension()?.to_str()? != extension {
        return None;
    }
    path.file_stem()?.to_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (ms, text) in [
            (0, "1970-01-01 00:00:00"),
            (951_782_400_000, "2000-02-29 00:00:00"),
            (951_868_800_000, "2000-03-01 00:00:00"),
            (1_735_689_599_999, "2024-12-31 23:59:59"),
            (1_795_327_256_000, "2026-11-22 06:00:56"),
            (4_107_542_400_000, "2100-03-01 00:00:00"),
        ] {
            assert_eq!(Utc::of(WallMs(ms)).date_time(), text);
        }
    }

    #[test]
    fn only_our_ids_name_recordings() {
        let good = "2026-11-22/rec_000102030405060708090a0b0c0d0e0f.sealed";
        assert!(recording_of(Path::new(good)).is_some());
        for bad in ["a.sealed", "rec_000102030405060708090a0b0c0d0e0f.seal", "rec_00.sealed", "", "..", "/"] {
            assert_eq!(recording_of(Path::new(bad)), None, "{bad}");
        }
    }
}
