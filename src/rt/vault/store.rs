//! The object store: sealed bytes and seals, as they are on the disk, in a bucket. What is put there counts as stored once
//! the store has shown its size and its content: by the MD5 that most stores give for an object, or by reading it back.

use std::io;
use std::path::Path as File;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use md5::{Digest, Md5};
use object_store::aws::{AmazonS3Builder, Checksum};
use object_store::path::Path;
use object_store::{Certificate, ClientOptions, ObjectStore, ObjectStoreExt, RetryConfig, WriteMultipart};
use sha2::Sha256;

use super::versions::Bucket;
use crate::audit::{Removed, Versions};
use crate::base::ids::RecordingId;
use crate::base::time::WallMs;
use crate::config::S3;
use crate::record::catalogue::{Entry, Stored};
use crate::record::place;
use crate::rt::recorder::wall;

/// Larger ones go in parts.
const ONE_PUT: u64 = 8 << 20;
const PART: usize = 8 << 20;

/// The store did not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// What it said, or that it could not be reached.
    #[error("object store: {0}")]
    Store(#[from] object_store::Error),
    /// A local file.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// What it has is not what was put there.
    #[error("object store: {key} is not there as it was put: {what}")]
    Differs {
        /// Key of the object.
        key: String,
        /// What differs.
        what: String,
    },
    /// It is not a store that can be used.
    #[error("object store: {0}")]
    Settings(String),
}

/// The bucket that `settings` name, for whoever puts something there. Nothing is sent yet.
///
/// # Errors
/// What in the settings cannot be used.
pub fn connect(settings: &S3) -> Result<Arc<dyn ObjectStore>, StoreError> {
    let bad = |error: object_store::Error| StoreError::Settings(error.to_string());
    // Whoever puts something comes again; within one try, a request is tried for half a minute.
    let retry = RetryConfig { max_retries: 5, retry_timeout: Duration::from_secs(30), ..RetryConfig::default() };
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(&settings.bucket)
        .with_region(&settings.region)
        .with_access_key_id(settings.access_key.expose())
        .with_secret_access_key(settings.secret_key.expose())
        .with_checksum_algorithm(Checksum::SHA256)
        .with_client_options(client_options(settings)?)
        .with_retry(retry);
    if let Some(endpoint) = &settings.endpoint {
        builder = builder.with_allow_http(endpoint.starts_with("http://")).with_endpoint(endpoint);
    }
    Ok(Arc::new(builder.build().map_err(bad)?))
}

/// How the store is spoken to.
fn client_options(settings: &S3) -> Result<ClientOptions, StoreError> {
    let mut client =
        ClientOptions::new().with_timeout(Duration::from_secs(120)).with_connect_timeout(Duration::from_secs(10));
    if let Some(ca) = &settings.ca {
        let pem = std::fs::read(ca).map_err(|e| StoreError::Settings(format!("ca: {}: {e}", ca.display())))?;
        let bad = |error: object_store::Error| StoreError::Settings(error.to_string());
        for certificate in Certificate::from_pem_bundle(&pem).map_err(bad)? {
            client = client.with_root_certificate(certificate);
        }
    }
    Ok(client)
}

/// A bucket and where in it.
pub struct Store {
    store: Arc<dyn ObjectStore>,
    /// What versions are asked for at.
    bucket: Option<Bucket>,
    prefix: String,
    runtime: tokio::runtime::Runtime,
}

impl Store {
    /// The store that `[storage.s3]` names. Nothing is sent yet.
    ///
    /// # Errors
    /// What in the settings cannot be used.
    pub fn s3(settings: &S3) -> Result<Self, StoreError> {
        let bucket = Bucket::of(settings, &client_options(settings)?)?;
        Ok(Self { bucket: Some(bucket), ..Self::new(connect(settings)?, &settings.prefix)? })
    }

    /// Any store.
    ///
    /// # Errors
    /// When there can be no runtime.
    pub fn new(store: Arc<dyn ObjectStore>, prefix: &str) -> Result<Self, StoreError> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        Ok(Self { store, bucket: None, prefix: prefix.to_owned(), runtime })
    }

    /// Key of a recording's sealed bytes.
    pub fn key(&self, recording: RecordingId, started: WallMs) -> String {
        format!("{}{}/{recording}.{}", self.prefix, place::Utc::of(started).date(), place::SEALED)
    }

    /// Puts a recording there, its seal first, and sees that it is there as it is here.
    ///
    /// # Errors
    /// When it is not; nothing here has changed, and it can be put again.
    pub fn put(&self, entry: &Entry, file: &File) -> Result<Stored, StoreError> {
        let key = self.key(entry.recording, entry.started_ms);
        let seal = place::seal_file(file);
        if seal.exists() {
            self.put_file(&seal_key(&key), &seal)?;
        }
        let (bytes, sha256) = self.put_file(&key, file)?;
        Ok(Stored { key, bytes, sha256, at_ms: wall() })
    }

    fn put_file(&self, key: &str, file: &File) -> Result<(u64, String), StoreError> {
        let path = Path::from(key);
        let opened = std::fs::File::open(file)?;
        let size = opened.metadata()?.len();
        let (mut sha, mut md5) = (Sha256::new(), Md5::new());
        if size <= ONE_PUT {
            let bytes = std::fs::read(file)?;
            sha.update(&bytes);
            md5.update(&bytes);
            self.runtime.block_on(self.store.put(&path, bytes.into()))?;
        } else {
            let upload = self.runtime.block_on(self.store.put_multipart(&path))?;
            let mut reader = io::BufReader::with_capacity(PART, opened);
            self.runtime.block_on(async {
                let mut parts = WriteMultipart::new_with_chunk_size(upload, PART);
                loop {
                    let piece = io::BufRead::fill_buf(&mut reader)?;
                    if piece.is_empty() {
                        break;
                    }
                    let read = piece.len();
                    sha.update(piece);
                    parts.wait_for_capacity(2).await?;
                    parts.write(piece);
                    io::BufRead::consume(&mut reader, read);
                }
                parts.finish().await?;
                Ok::<(), StoreError>(())
            })?;
        }
        let differs = |what: String| StoreError::Differs { key: key.to_owned(), what };
        let there = self.runtime.block_on(self.store.head(&path))?;
        if there.size != size {
            return Err(differs(format!("{} bytes of {size}", there.size)));
        }
        let sha: [u8; 32] = sha.finalize().into();
        let tag = there.e_tag.as_deref().map(|tag| tag.trim_matches('"').to_ascii_lowercase());
        if size > ONE_PUT || tag.as_deref() != Some(&hex::encode(md5.finalize())) {
            let mut back = Sha256::new();
            self.read(&path, &mut |piece| {
                back.update(piece);
                Ok(())
            })?;
            let back: [u8; 32] = back.finalize().into();
            if back != sha {
                return Err(differs("its content is another".to_owned()));
            }
        }
        Ok((size, hex::encode(sha)))
    }

    fn read(&self, path: &Path, each: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> Result<(), StoreError> {
        self.runtime.block_on(async {
            let mut pieces = self.store.get(path).await?.into_stream();
            while let Some(piece) = pieces.next().await {
                each(&piece?)?;
            }
            Ok(())
        })
    }

    /// Brings a recording and its seal back, to `file` and beside it; what is not as it was stored is not taken.
    ///
    /// # Errors
    /// When it cannot be had whole.
    pub fn fetch(&self, stored: &Stored, file: &File) -> Result<(), StoreError> {
        let seal = Path::from(seal_key(&stored.key));
        match self.runtime.block_on(self.store.head(&seal)) {
            Ok(_) => self.fetch_file(&seal, &place::seal_file(file))?,
            Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        let part = file.with_extension("fetched");
        self.fetch_file(&Path::from(stored.key.as_str()), &part)?;
        let mut sha = Sha256::new();
        io::copy(&mut std::fs::File::open(&part)?, &mut io::BufWriter::new(Hashing(&mut sha)))?;
        let sha: [u8; 32] = sha.finalize().into();
        if hex::encode(sha) != stored.sha256 {
            std::fs::remove_file(&part)?;
            return Err(StoreError::Differs { key: stored.key.clone(), what: "its SHA-256 is another".to_owned() });
        }
        std::fs::rename(&part, file)?;
        Ok(())
    }

    fn fetch_file(&self, path: &Path, file: &File) -> Result<(), StoreError> {
        use std::os::unix::fs::OpenOptionsExt;
        let mut out = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(file)?;
        self.read(path, &mut |piece| io::Write::write_all(&mut out, piece))?;
        out.sync_all()?;
        Ok(())
    }

    /// Removes a recording, and sees that it is gone.
    ///
    /// # Errors
    /// When it may still be there.
    pub fn remove(&self, stored: &Stored) -> Result<Removed, StoreError> {
        let mut removed = Removed { objects_gone: 0, versions: Versions::NoneKept };
        for key in [stored.key.clone(), seal_key(&stored.key)] {
            let path = Path::from(key.as_str());
            // A bucket that keeps versions gives each object one; deleting then only hides it.
            let (was_there, keeps) = match self.runtime.block_on(self.store.head(&path)) {
                Ok(there) => (true, there.version.is_some_and(|version| version != "null")),
                Err(object_store::Error::NotFound { .. }) => (false, false),
                Err(error) => return Err(error.into()),
            };
            match self.runtime.block_on(self.store.delete(&path)) {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(error.into()),
            }
            match self.runtime.block_on(self.store.head(&path)) {
                Err(object_store::Error::NotFound { .. }) => {}
                Ok(_) => return Err(StoreError::Differs { key, what: "it was deleted and is still there".to_owned() }),
                Err(error) => return Err(error.into()),
            }
            removed.objects_gone += u64::from(was_there);
            let asked = match &self.bucket {
                Some(bucket) => self.runtime.block_on(bucket.delete_versions(&key)),
                None => Err("it cannot be asked for versions".to_owned()),
            };
            removed.versions = match (removed.versions, asked) {
                (Versions::NoneKept, Ok(0)) => Versions::NoneKept,
                (Versions::NoneKept, Ok(count)) => Versions::Deleted(count),
                (Versions::Deleted(before), Ok(count)) => Versions::Deleted(before + count),
                (_, Err(why)) if keeps => Versions::MayRemain(why.into()),
                (before, _) => before,
            };
        }
        Ok(removed)
    }
}

fn seal_key(key: &str) -> String {
    key.strip_suffix(place::SEALED).map_or_else(|| key.to_owned(), |stem| format!("{stem}{}", place::SEAL))
}

struct Hashing<'a>(&'a mut Sha256);

impl io::Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
