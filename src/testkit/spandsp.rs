//! SpanDSP's DTMF receiver as a second opinion, from the shared library where one is installed (Debian: `libspandsp2`).
//! Only tests and benches use it; nothing is linked.
#![allow(unsafe_code)]

use std::ffi::{c_char, c_int, c_void};

use libloading::{Library, Symbol};

type Init = unsafe extern "C" fn(*mut c_void, *const c_void, *mut c_void) -> *mut c_void;
type Receive = unsafe extern "C" fn(*mut c_void, *const i16, c_int) -> c_int;
type Get = unsafe extern "C" fn(*mut c_void, *mut c_char, c_int) -> usize;
type Free = unsafe extern "C" fn(*mut c_void) -> c_int;

/// The library, loaded.
pub struct Spandsp {
    init: Init,
    receive: Receive,
    get: Get,
    free: Free,
    /// Keeps the functions above where they are.
    _library: Library,
}

impl Spandsp {
    /// Loads the library; the error says why it cannot be used, for the caller to print.
    pub fn load() -> Result<Self, String> {
        const NAME: &str = "libspandsp.so.2";
        // SAFETY: loading runs the library's constructors; SpanDSP has none with requirements.
        let library = unsafe { Library::new(NAME) }.map_err(|e| format!("{NAME} cannot be loaded: {e}"))?;
        fn symbol<T: Copy>(library: &Library, name: &str) -> Result<T, String> {
            // SAFETY: the types above are those of spandsp/dtmf.h.
            let found: Result<Symbol<'_, T>, _> = unsafe { library.get(name.as_bytes()) };
            found.map(|s| *s).map_err(|e| format!("{name} is missing: {e}"))
        }
        Ok(Self {
            init: symbol(&library, "dtmf_rx_init")?,
            receive: symbol(&library, "dtmf_rx")?,
            get: symbol(&library, "dtmf_rx_get")?,
            free: symbol(&library, "dtmf_rx_free")?,
            _library: library,
        })
    }

    /// A fresh receiver.
    pub fn receiver(&self) -> Receiver<'_> {
        // SAFETY: a null state asks for a new one; no callback and no user data are allowed.
        let state = unsafe { (self.init)(std::ptr::null_mut(), std::ptr::null(), std::ptr::null_mut()) };
        Receiver { library: self, state }
    }

    /// Everything a fresh receiver decodes in `samples`, as keypad characters.
    pub fn decode(&self, samples: &[i16]) -> String {
        let mut receiver = self.receiver();
        samples.chunks(160).map(|frame| receiver.feed(frame)).collect()
    }
}

/// One DTMF receiver.
pub struct Receiver<'a> {
    library: &'a Spandsp,
    state: *mut c_void,
}

impl Receiver<'_> {
    /// Takes 8 kHz samples; returns the keys decoded meanwhile, as keypad characters.
    pub fn feed(&mut self, samples: &[i16]) -> String {
        let mut keys = [0 as c_char; 129];
        if self.state.is_null() {
            return String::new();
        }
        let count = c_int::try_from(samples.len()).unwrap_or(c_int::MAX);
        // SAFETY: the state is live until drop; the slice holds `count` samples; the buffer holds 128 keys and a NUL.
        let got = unsafe {
            (self.library.receive)(self.state, samples.as_ptr(), count);
            (self.library.get)(self.state, keys.as_mut_ptr(), 128)
        };
        keys[..got.min(128)].iter().map(|c| *c as u8 as char).collect()
    }
}

impl Drop for Receiver<'_> {
    fn drop(&mut self) {
        if !self.state.is_null() {
            // SAFETY: made by `dtmf_rx_init`, freed once.
            unsafe { (self.library.free)(self.state) };
        }
    }
}
