//! The files of the log. A [`Book`] appends lines and checkpoints under a lock, so that the node and the commands that
//! people give beside it write one chain; it goes on after a kill, cuts what a kill tore, and begins a new file each UTC
//! day and when one is full.
//!
//! ```text
//!  <directory>/                         0700
//!    audit-000000000001.log             0600, append; named after its first entry
//!    audit-000000004711.log
//!    checkpoints                        every checkpoint signed here, one note after another
//!    lock                               held while one process appends
//!    node.lock                          held by the node for as long as it runs
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::audit::note::{Checkpoint, Signer};
use crate::audit::tree::{Tree, leaf};
use crate::audit::{Action, Chain, Record, Stored};
use crate::base::time::WallMs;

/// The file of checkpoints.
pub const CHECKPOINTS: &str = "checkpoints";

/// The file whose lock is held while one process appends.
const LOCK: &str = "lock";

const MS_PER_DAY: u64 = 86_400_000;

/// Who writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writer {
    /// The node: the only one that begins new files for their size or the day.
    Node,
    /// A command beside it.
    Guest,
}

/// The log's files, open for writing.
pub struct Book {
    directory: PathBuf,
    node: String,
    writer: Writer,
    file_bytes: u64,
    lock: File,
    /// Keeps other nodes out.
    _node_lock: Option<File>,
    page: Option<Page>,
    chain: Chain,
    /// Entries under the newest checkpoint.
    signed: u64,
    /// What was found while opening or catching up, to be written with the next entries.
    tell: Vec<Action>,
}

/// The file that is written to.
struct Page {
    file: File,
    name: String,
    bytes: u64,
    day: u64,
}

/// Holds the lock of the log for as long as it lives.
struct Locked<'a>(&'a File);

impl<'a> Locked<'a> {
    fn new(file: &'a File) -> io::Result<Self> {
        flock(file, FlockOperation::LockExclusive)?;
        Ok(Self(file))
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        // It ends with the process at the latest.
        let _ = flock(self.0, FlockOperation::Unlock);
    }
}

/// Names of the log's files in order.
///
/// # Errors
/// When the directory cannot be read.
pub fn pages(directory: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        let Some(name) = name.to_str() else { continue };
        if first_of(name).is_some() {
            names.push(name.to_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Keeps everybody from writing the log in `directory` for as long as it lives; `None` where there is no lock, as in a
/// copy, or it may not be opened. Waits for who is writing.
pub fn hold_still(directory: &Path) -> Option<HeldStill> {
    let lock = File::open(directory.join(LOCK)).ok()?;
    flock(&lock, FlockOperation::LockShared).ok()?;
    Some(HeldStill { _lock: lock })
}

/// Nobody writes the log while this lives.
pub struct HeldStill {
    _lock: File,
}

/// Number of the first entry of a file, by its name.
fn first_of(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("audit-")?.strip_suffix(".log")?;
    (digits.len() >= 12 && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok())?
}

fn page_name(first: u64) -> String {
    format!("audit-{first:012}.log")
}

impl Book {
    /// Opens the log in `directory`, making it where it is not there, and finds out where it stands. `file_bytes` is the
    /// size beyond which the node begins a new file.
    ///
    /// # Errors
    /// When files cannot be made or read, another node has the log, or its newest file does not begin as one must.
    pub fn open(directory: &Path, node: &str, writer: Writer, file_bytes: u64) -> io::Result<Self> {
        if !directory.is_dir() {
            DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        }
        let private =
            |name: &str| OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(directory.join(name));
        let node_lock = match writer {
            Writer::Guest => None,
            Writer::Node => {
                let file = private("node.lock")?;
                flock(&file, FlockOperation::NonBlockingLockExclusive)
                    .map_err(|_| io::Error::other("another node writes this log"))?;
                Some(file)
            }
        };
        let lock = private(LOCK)?;
        let mut book = Self {
            directory: directory.to_owned(),
            node: node.to_owned(),
            writer,
            file_bytes,
            lock: lock.try_clone()?,
            _node_lock: node_lock,
            page: None,
            chain: Chain::new(node),
            signed: 0,
            tell: Vec::new(),
        };
        let locked = Locked::new(&lock)?;
        book.find()?;
        drop(locked);
        Ok(book)
    }

    /// Entries there are.
    pub fn entries(&self) -> u64 {
        self.chain.tree().size()
    }

    /// Entries under the newest checkpoint.
    pub fn signed(&self) -> u64 {
        self.signed
    }

    /// Appends records, all or none; with `sync`, they are on the disk when it returns.
    ///
    /// # Errors
    /// When nothing was appended.
    pub fn append(&mut self, records: &[(WallMs, Record)], sync: bool) -> io::Result<()> {
        let lock = self.lock.try_clone()?;
        let _locked = Locked::new(&lock)?;
        self.catch_up()?;
        let before = self.chain.clone();
        let told = self.tell.len();
        let done = self.write(records, sync);
        match done {
            Ok(()) => drop(self.tell.drain(..told)),
            Err(_) => {
                self.chain = before;
                if let Some(page) = &self.page {
                    // What did get there is torn, and is cut now or when the log is written again.
                    let _ = page.file.set_len(page.bytes);
                }
            }
        }
        done
    }

    fn write(&mut self, records: &[(WallMs, Record)], sync: bool) -> io::Result<()> {
        let Some(at) = records.last().map(|(at, _)| *at) else { return Ok(()) };
        let day = at.0.max(self.chain.last_at().0) / MS_PER_DAY;
        let over = |page: &Page| self.writer == Writer::Node && (page.day < day || page.bytes >= self.file_bytes);
        if self.page.as_ref().is_none_or(over) {
            self.begin(at, day)?;
        }
        let mut bytes = Vec::with_capacity(records.len() * 512);
        for action in &self.tell {
            self.chain.append(at, &Record::node(action.clone()), |line| bytes.extend_from_slice(&line.bytes));
        }
        for (at, record) in records {
            self.chain.append(*at, record, |line| bytes.extend_from_slice(&line.bytes));
        }
        let Some(page) = &mut self.page else { return Ok(()) };
        page.file.write_all(&bytes)?;
        if sync {
            page.file.sync_data()?;
        }
        page.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Begins a new file with the entry that says what stood before it.
    fn begin(&mut self, at: WallMs, day: u64) -> io::Result<()> {
        if let Some(page) = &self.page {
            page.file.sync_data()?;
        }
        let name = page_name(self.chain.tree().size() + 1);
        let path = self.directory.join(&name);
        let before = self.chain.clone();
        let line = self.chain.begin_file(at, &name);
        let made = || -> io::Result<File> {
            let mut file = OpenOptions::new().read(true).append(true).create_new(true).mode(0o600).open(&path)?;
            file.write_all(&line.bytes)?;
            file.sync_data()?;
            File::open(&self.directory)?.sync_all()?;
            Ok(file)
        };
        match made() {
            Ok(file) => {
                self.page = Some(Page { file, name, bytes: line.bytes.len() as u64, day });
                Ok(())
            }
            Err(error) => {
                self.chain = before;
                // A file without its first entry is no file of the log.
                let _ = fs::remove_file(&path);
                Err(error)
            }
        }
    }

    /// Makes sure that everything appended is on the disk.
    ///
    /// # Errors
    /// When it is not.
    pub fn sync(&self) -> io::Result<()> {
        self.page.as_ref().map_or(Ok(()), |page| page.file.sync_data())
    }

    /// Signs where the log stands, if that is not signed yet, and keeps the checkpoint beside the log.
    ///
    /// # Errors
    /// When it cannot be kept.
    pub fn checkpoint(&mut self, signer: &Signer, at: WallMs) -> io::Result<Option<Checkpoint>> {
        let lock = self.lock.try_clone()?;
        let _locked = Locked::new(&lock)?;
        self.catch_up()?;
        if self.entries() <= self.signed {
            return Ok(None);
        }
        self.sync()?;
        let checkpoint = signer.sign(self.entries(), &self.chain.tree().root(), at);
        let path = self.directory.join(CHECKPOINTS);
        let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
        let length = file.metadata()?.len();
        let mut last = [b'\n'];
        if length > 0 {
            file.read_exact_at(&mut last, length - 1)?;
        }
        // What a torn write left must not run into the next note.
        let begun = if last == *b"\n" { String::new() } else { "\n".to_owned() };
        let written = file.write_all((begun + &checkpoint.print()).as_bytes()).and_then(|()| file.sync_data());
        if let Err(error) = written {
            let _ = file.set_len(length);
            return Err(error);
        }
        self.signed = checkpoint.size;
        Ok(Some(checkpoint))
    }

    /// The newest checkpoint beside the log.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn newest_checkpoint(&self) -> io::Result<Option<Checkpoint>> {
        match fs::read(self.directory.join(CHECKPOINTS)) {
            Ok(bytes) => {
                let (notes, _) = Checkpoint::read_all(&String::from_utf8_lossy(&bytes));
                Ok(notes.into_iter().max_by_key(|note| note.size))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Finds the end of the log on the disk.
    fn find(&mut self) -> io::Result<()> {
        let newest = self.newest_checkpoint()?;
        self.signed = newest.as_ref().map_or(0, |note| note.size);
        self.page = None;
        self.chain = Chain::new(&self.node);
        for name in pages(&self.directory)?.into_iter().rev() {
            if self.read_page(&name, newest.as_ref())? {
                break;
            }
            // A kill tore its first entry, which never counted.
            fs::remove_file(self.directory.join(&name))?;
            self.tell.push(Action::LogCut { file: name.as_str().into(), bytes: 0 });
        }
        if self.signed > self.entries() {
            let what = format!("{} entries were signed and {} are there", self.signed, self.entries());
            self.damaged(&what);
        }
        Ok(())
    }

    fn damaged(&mut self, what: &str) {
        tracing::error!(directory = %self.directory.display(), what, "the audit log is not as it was left");
        self.tell.push(Action::LogDamaged { what: what.into() });
    }

    /// Reads the file `name` and takes its end for the log's; `false` when it has no whole entry.
    fn read_page(&mut self, name: &str, newest: Option<&Checkpoint>) -> io::Result<bool> {
        let path = self.directory.join(name);
        let mut file = OpenOptions::new().read(true).append(true).open(&path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let whole = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        let torn = bytes.len() - whole;
        let mut lines = bytes[..whole].split_inclusive(|b| *b == b'\n').map(|line| &line[..line.len() - 1]);
        let Some(first) = lines.next() else { return Ok(false) };
        let begins = Stored::read(first).and_then(|first| first.tree_before().map(|tree| (first, tree)));
        let Some((first, mut tree)) = begins else {
            return Err(io::Error::other(format!(
                "{}: its first entry is not one that begins a file; move the directory away to begin a new log",
                path.display()
            )));
        };
        let mut last = first.hash;
        let mut last_line = None;
        let mut wrong_root = false;
        let mut push = |tree: &mut Tree, hash| {
            tree.push(hash);
            wrong_root |= newest.is_some_and(|note| note.size == tree.size() && note.root != tree.root());
        };
        push(&mut tree, last);
        for line in lines {
            last = leaf(line);
            push(&mut tree, last);
            last_line = Some(line);
        }
        let last_at = last_line.and_then(Stored::read).map_or(first.at, |stored| stored.at);
        if torn > 0 {
            file.set_len(whole as u64)?;
            file.sync_data()?;
            self.tell.push(Action::LogCut { file: name.into(), bytes: torn as u64 });
        }
        if wrong_root {
            self.damaged("entries are not those that were signed");
        }
        file.seek(SeekFrom::End(0))?;
        self.chain = Chain::resume(&self.node, tree, last, last_at);
        let day = first.at.0 / MS_PER_DAY;
        self.page = Some(Page { file, name: name.to_owned(), bytes: whole as u64, day });
        Ok(true)
    }

    /// Takes in what another process has appended since, and cuts what one left torn.
    fn catch_up(&mut self) -> io::Result<()> {
        if self.writer == Writer::Guest {
            let newest = pages(&self.directory)?.pop();
            if newest.as_ref() != self.page.as_ref().map(|page| &page.name) {
                return self.find();
            }
        }
        let Some(page) = &mut self.page else {
            // A command may have begun the log.
            return if pages(&self.directory)?.is_empty() { Ok(()) } else { self.find() };
        };
        let length = page.file.metadata()?.len();
        if length < page.bytes {
            let what = format!("{} was cut from {} bytes to {length}", page.name, page.bytes);
            page.bytes = length;
            self.damaged(&what);
            return Ok(());
        }
        if length == page.bytes {
            return Ok(());
        }
        let mut more = vec![0; (length - page.bytes) as usize];
        page.file.read_exact_at(&mut more, page.bytes)?;
        let whole = more.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        let mut strange = false;
        for line in more[..whole].split_inclusive(|b| *b == b'\n') {
            match Stored::read(&line[..line.len() - 1]).filter(|stored| stored.seq == self.chain.tree().size() + 1) {
                Some(stored) => self.chain.adopt(&stored),
                None => strange = true,
            }
        }
        page.bytes += whole as u64;
        if whole < more.len() {
            page.file.set_len(page.bytes)?;
            let (file, bytes) = (page.name.as_str().into(), (more.len() - whole) as u64);
            self.tell.push(Action::LogCut { file, bytes });
        }
        if strange {
            self.damaged("somebody else wrote into the file");
        }
        Ok(())
    }
}
