//! SRTP of libre (the library under baresip) as a second opinion, from the shared object where one is installed (Debian:
//! `libre0`, which comes with `baresip-core`). Only tests use it; nothing is linked. One endpoint takes packets of either
//! direction under one key.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};

use libloading::{Library, Symbol};

use crate::base::key::MediaKey;
use crate::config::SrtpSuite;

type Alloc = unsafe extern "C" fn(*mut *mut c_void, c_int, *const u8, usize, c_int) -> c_int;
type Work = unsafe extern "C" fn(*mut c_void, *mut Buffer) -> c_int;
type NewBuffer = unsafe extern "C" fn(usize) -> *mut Buffer;
type Release = unsafe extern "C" fn(*mut c_void) -> *mut c_void;

/// `struct mbuf` of re_mbuf.h.
#[repr(C)]
struct Buffer {
    bytes: *mut u8,
    size: usize,
    position: usize,
    end: usize,
}

/// Room behind a packet for tag and index.
const MORE: usize = 64;

/// The library, loaded.
pub struct Libre {
    alloc: Alloc,
    work: [Work; 4],
    new_buffer: NewBuffer,
    release: Release,
    /// Keeps the functions above where they are.
    _library: Library,
}

/// What is to be done with a packet.
#[derive(Debug, Clone, Copy)]
pub enum Task {
    /// RTP to SRTP.
    SealRtp,
    /// SRTP to RTP.
    OpenRtp,
    /// RTCP to SRTCP.
    SealRtcp,
    /// SRTCP to RTCP.
    OpenRtcp,
}

impl Libre {
    /// Loads the library; the error says why it cannot be used, for the caller to print.
    pub fn load() -> Result<Self, String> {
        const NAME: &str = "libre.so.0";
        // SAFETY: loading runs the library's constructors; libre has none with requirements.
        let library = unsafe { Library::new(NAME) }.map_err(|e| format!("{NAME} cannot be loaded: {e}"))?;
        fn symbol<T: Copy>(library: &Library, name: &str) -> Result<T, String> {
            // SAFETY: the types above are those of re_srtp.h, re_mbuf.h and re_mem.h.
            let found: Result<Symbol<'_, T>, _> = unsafe { library.get(name.as_bytes()) };
            found.map(|s| *s).map_err(|e| format!("{name} is missing: {e}"))
        }
        Ok(Self {
            alloc: symbol(&library, "srtp_alloc")?,
            work: [
                symbol(&library, "srtp_encrypt")?,
                symbol(&library, "srtp_decrypt")?,
                symbol(&library, "srtcp_encrypt")?,
                symbol(&library, "srtcp_decrypt")?,
            ],
            new_buffer: symbol(&library, "mbuf_alloc")?,
            release: symbol(&library, "mem_deref")?,
            _library: library,
        })
    }

    /// An endpoint with this key; `None` when the library refuses it.
    pub fn endpoint(&self, suite: SrtpSuite, key: &MediaKey) -> Option<Endpoint<'_>> {
        // `enum srtp_suite` of re_srtp.h.
        let number = match suite {
            SrtpSuite::AesCm128Sha1_32 => 0,
            SrtpSuite::AesCm128Sha1_80 => 1,
            SrtpSuite::AesCm256Sha1_32 => 2,
            SrtpSuite::AesCm256Sha1_80 => 3,
            SrtpSuite::AesGcm128 => 4,
            SrtpSuite::AesGcm256 => 5,
        };
        let mut state = std::ptr::null_mut();
        let bytes = key.expose();
        // SAFETY: the key is readable for its length; the state is written on success only.
        let status = unsafe { (self.alloc)(&raw mut state, number, bytes.as_ptr(), bytes.len(), 0) };
        (status == 0 && !state.is_null()).then_some(Endpoint { library: self, state })
    }
}

/// One endpoint's SRTP.
pub struct Endpoint<'a> {
    library: &'a Libre,
    state: *mut c_void,
}

impl Endpoint<'_> {
    /// What the library makes of a packet; its error number when it refuses.
    pub fn run(&mut self, task: Task, packet: &[u8]) -> Result<Vec<u8>, i32> {
        let work = self.library.work[task as usize];
        // SAFETY: a fresh buffer of the library's own with room for packet and growth is filled within its size, handed to
        // the library with its own state, read up to its end within its size, and released once.
        unsafe {
            let buffer = (self.library.new_buffer)(packet.len() + MORE);
            if buffer.is_null() {
                return Err(-1);
            }
            std::ptr::copy_nonoverlapping(packet.as_ptr(), (*buffer).bytes, packet.len());
            ((*buffer).position, (*buffer).end) = (0, packet.len());
            let status = work(self.state, buffer);
            let done = if status == 0 {
                Ok(std::slice::from_raw_parts((*buffer).bytes, (*buffer).end).to_vec())
            } else {
                Err(status)
            };
            (self.library.release)(buffer.cast());
            done
        }
    }
}

impl Drop for Endpoint<'_> {
    fn drop(&mut self) {
        // SAFETY: the state came from the library, and is released once.
        unsafe { (self.library.release)(self.state) };
    }
}
