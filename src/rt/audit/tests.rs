use super::*;
use crate::audit::note::Checkpoint;
use crate::audit::verify::{Report, Verification};
use crate::config::{Ship, ShipTo};
use std::path::PathBuf;

struct Site {
    root: tempfile::TempDir,
    settings: config::Audit,
}

impl Site {
    fn new() -> Self {
        let root = tempfile::tempdir().expect("a directory");
        let key = root.path().join("audit.key");
        keys::make(&key, "tonewall/n1").expect("a key");
        let settings = config::Audit {
            directory: root.path().join("audit"),
            key,
            sync: config::AuditSync::Always,
            checkpoint_entries: 10,
            checkpoint_every: Duration::from_millis(50),
            file_bytes: 4_000,
            ships: Vec::new(),
        };
        Self { root, settings }
    }

    fn start(&self) -> Log {
        Log::start(&self.settings, "n1", |_| {}).expect("started")
    }

    fn pages(&self) -> Vec<PathBuf> {
        let names = book::pages(&self.settings.directory).expect("files");
        names.iter().map(|name| self.settings.directory.join(name)).collect()
    }

    fn text(&self) -> String {
        self.pages().iter().map(|page| std::fs::read_to_string(page).expect("text")).collect()
    }

    fn verify(&self) -> Report {
        let key = keys::load(&self.settings.key).expect("a key").verifier();
        let notes = std::fs::read_to_string(self.settings.directory.join(book::CHECKPOINTS)).unwrap_or_default();
        let (notes, bad) = Checkpoint::read_all(&notes);
        assert_eq!(bad, 0);
        let notes = notes.into_iter().map(|note| (note, "here".to_owned()));
        let mut verification = Verification::new(Some(&key), notes);
        for page in self.pages() {
            let text = std::fs::read(&page).expect("a file");
            let name = page.display().to_string();
            let whole = text.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
            for (number, line) in (1..).zip(text[..whole].split_inclusive(|b| *b == b'\n')) {
                verification.line(&name, number, line.trim_ascii_end());
            }
            verification.torn((text.len() - whole) as u64);
        }
        verification.finish()
    }
}

fn other(what: &str) -> Record {
    Record::node(Action::Other { what: what.into() })
}

#[tokio::test]
async fn what_is_confirmed_is_on_the_disk_and_the_chain_goes_on_over_files_and_runs() {
    let site = Site::new();
    for run in 0..3 {
        let log = site.start();
        for n in 0..20 {
            log.audit().confirm(other(&format!("{run} {n}"))).await.expect("written");
            assert!(site.text().contains(&format!("\"what\":\"{run} {n}\"")), "{run} {n}");
        }
        log.stop();
    }
    assert!(site.pages().len() > 3, "files are begun anew when they are full");
    let report = site.verify();
    assert_eq!(report.findings, []);
    assert_eq!((report.signed, report.entries), (report.last, report.last), "all of it is signed at the end");
    let text = site.text();
    assert_eq!(text.matches("\"action\":\"log-started\"").count(), 3);
    assert_eq!(text.matches("\"action\":\"log-stopped\"").count(), 3);
    let mode =
        |path: &Path| std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(path).expect("meta").permissions());
    assert_eq!(mode(&site.settings.directory) & 0o777, 0o700);
    assert_eq!(mode(&site.pages()[0]) & 0o777, 0o600);
    assert_eq!(mode(&site.settings.key) & 0o777, 0o400);
}

#[tokio::test]
async fn a_command_writes_into_the_log_of_a_running_node_and_the_chain_is_one() {
    let site = Site::new();
    let log = site.start();
    for n in 0..12 {
        log.audit().confirm(other(&format!("node {n}"))).await.expect("written");
        let mut guest = Book::open(&site.settings.directory, "n1", Writer::Guest, 4_000).expect("open");
        guest.append(&[(wall(), other(&format!("guest {n}")))], true).expect("written");
    }
    log.stop();
    let report = site.verify();
    assert_eq!(report.findings, []);
    assert!(site.pages().len() > 1 && report.signed == report.last);
    let text = site.text();
    for n in 0..12 {
        assert!(text.find(&format!("node {n}\"")) < text.find(&format!("guest {n}\"")), "{n}");
    }
}

#[tokio::test]
async fn a_second_node_is_kept_out() {
    let site = Site::new();
    let log = site.start();
    assert!(matches!(Log::start(&site.settings, "n2", |_| {}), Err(AuditError::Directory { .. })));
    log.stop();
    site.start().stop();
}

#[tokio::test]
async fn a_torn_end_is_cut_and_said_wherever_it_tears() {
    let site = Site::new();
    site.start().stop();
    let page = site.pages().pop().expect("a file");
    let whole = std::fs::read(&page).expect("a file");
    let line = whole.split_inclusive(|b| *b == b'\n').next_back().expect("a line").to_vec();
    for cut in [1, 2, line.len() / 2, line.len() - 1] {
        let site = Site::new();
        site.start().stop();
        let page = site.pages().pop().expect("a file");
        let mut bytes = std::fs::read(&page).expect("a file");
        bytes.extend_from_slice(&line[..cut]);
        std::fs::write(&page, bytes).expect("torn");
        assert_eq!(site.verify().torn, cut as u64);
        site.start().stop();
        let report = site.verify();
        assert_eq!((report.findings.as_slice(), report.torn), (&[][..], 0));
        assert!(site.text().contains("\"action\":\"log-cut\""), "{}", site.text());
        assert!(site.text().contains(&format!("\"bytes\":{cut},")), "{}", site.text());
    }
    // A file whose first entry was torn never counted.
    let next = page.with_file_name("audit-000000000099.log");
    std::fs::write(&next, b"{\"action\":\"log-f").expect("torn");
    site.start().stop();
    assert!(!next.exists());
    assert_eq!(site.verify().findings, []);
}

#[tokio::test]
async fn a_log_that_was_cut_behind_our_back_is_told_when_it_is_opened() {
    let site = Site::new();
    site.start().stop();
    let page = site.pages().pop().expect("a file");
    let text = std::fs::read_to_string(&page).expect("a file");
    let shorter: Vec<&str> = text.lines().collect();
    std::fs::write(&page, shorter[..shorter.len() - 1].join("\n") + "\n").expect("cut");
    site.start().stop();
    assert!(site.text().contains("\"action\":\"log-damaged\""), "{}", site.text());
    assert!(!site.verify().findings.is_empty());
}

#[tokio::test]
async fn a_directory_that_cannot_be_written_makes_the_log_unwritable_until_it_can() {
    let site = Site::new();
    // A file stands where the directory should be.
    std::fs::write(&site.settings.directory, b"").expect("a file");
    let (told, heard) = std::sync::mpsc::channel();
    let log = Log::start(&site.settings, "n1", move |writable| told.send(writable).expect("heard")).expect("started");
    let audit = log.audit();
    assert!(audit.confirm(other("refused")).await.is_err());
    assert!(!audit.writable() && !log.totals().totals().writable);
    audit.note(other("kept"));
    std::fs::remove_file(&site.settings.directory).expect("removed");
    let begun = std::time::Instant::now();
    while !audit.writable() {
        assert!(begun.elapsed() < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    audit.confirm(other("again")).await.expect("written");
    log.stop();
    assert_eq!(heard.iter().take(2).collect::<Vec<_>>(), [false, true]);
    let text = site.text();
    assert!(text.contains("\"action\":\"log-gap\"") && text.contains("kept") && text.contains("again"), "{text}");
    assert_eq!(site.verify().findings, []);
}

#[tokio::test]
async fn a_log_that_cannot_be_signed_stays_unwritable_though_its_open_file_takes_entries() {
    let mut site = Site::new();
    site.settings.checkpoint_entries = 1;
    site.settings.file_bytes = 1_000_000;
    let (told, heard) = std::sync::mpsc::channel();
    let log = Log::start(&site.settings, "n1", move |writable| told.send(writable).expect("heard")).expect("started");
    let audit = log.audit();
    audit.confirm(other("before")).await.expect("written");
    let away = site.root.path().join("away");
    std::fs::rename(&site.settings.directory, &away).expect("moved");
    // The file it has open went with its directory; the checkpoints have no place.
    let begun = std::time::Instant::now();
    while audit.writable() {
        audit.confirm(other("meanwhile")).await.expect("written");
        assert!(begun.elapsed() < Duration::from_secs(10));
    }
    for _ in 0..100 {
        audit.confirm(other("meanwhile")).await.expect("written");
        assert!(!audit.writable());
    }
    std::fs::rename(&away, &site.settings.directory).expect("back");
    while !audit.writable() {
        assert!(begun.elapsed() < Duration::from_secs(20));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    log.stop();
    assert_eq!(heard.iter().collect::<Vec<_>>(), [false, true]);
    assert!(!site.text().contains("log-gap"), "nothing was lost: {}", site.text());
    assert_eq!(site.verify().findings, []);
}

#[tokio::test]
async fn checkpoints_get_to_a_directory_and_are_tried_again_until_they_do() {
    let mut site = Site::new();
    let place = site.root.path().join("witness");
    // Not a directory yet: the first tries fail.
    std::fs::write(&place, b"").expect("a file");
    site.settings.ships = vec![Ship { name: "witness".into(), to: ShipTo::Directory(place.clone()) }];
    let log = site.start();
    let begun = std::time::Instant::now();
    while !site.text().contains("shipping-failed") {
        assert!(begun.elapsed() < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    std::fs::remove_file(&place).expect("removed");
    while log.totals().totals().shipped[0].1 == 0 || !site.text().contains("shipping-resumed") {
        assert!(begun.elapsed() < Duration::from_secs(20));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    log.stop();
    let notes = std::fs::read_dir(place.join("tonewall_n1")).expect("notes").count();
    assert!(notes > 0);
}

#[tokio::test]
async fn what_came_and_went_in_the_configuration_is_told_over_restarts() {
    let site = Site::new();
    let mut config = config::Config::parse("t", include_str!("../../../config/reference.toml")).expect("good");
    config.audit = Some(site.settings.clone());
    let log = site.start();
    configured(&log.audit(), &config);
    log.stop();
    config.keys.old.clear();
    config.fingerprint = [1; 32];
    let log = site.start();
    configured(&log.audit(), &config);
    log.stop();
    let text = site.text();
    let removed: Vec<&str> = text.lines().filter(|line| line.contains("\"made\":\"removed\"")).collect();
    assert_eq!(removed.len(), 1, "{text}");
    assert!(removed[0].contains("\"thing\":\"key-encryption-key\"") && removed[0].contains("\"name\":\"2026-10\""));
    assert!(text.contains(&format!("\"configuration\":\"{}\"", "01".repeat(32))), "{text}");
    assert!(text.contains("\"made\":\"created\",\"name\":\"crm\""), "{text}");
}
