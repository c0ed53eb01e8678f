//! Second opinions on codecs, from shared libraries where they are installed (Debian: `libspandsp2` for G.722, `libopus0`
//! for Opus). Only tests use them; nothing is linked.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};

use libloading::{Library, Symbol};

fn load(name: &str) -> Result<Library, String> {
    // SAFETY: loading runs the library's constructors; neither of these two has any with requirements.
    unsafe { Library::new(name) }.map_err(|e| format!("{name} cannot be loaded: {e}"))
}

fn symbol<T: Copy>(library: &Library, name: &str) -> Result<T, String> {
    // SAFETY: callers name the type of the library's header.
    let found: Result<Symbol<'_, T>, _> = unsafe { library.get(name.as_bytes()) };
    found.map(|s| *s).map_err(|e| format!("{name} is missing: {e}"))
}

type G722Init = unsafe extern "C" fn(*mut c_void, c_int, c_int) -> *mut c_void;
type G722Encode = unsafe extern "C" fn(*mut c_void, *mut u8, *const i16, c_int) -> c_int;
type G722Decode = unsafe extern "C" fn(*mut c_void, *mut i16, *const u8, c_int) -> c_int;
type G722Free = unsafe extern "C" fn(*mut c_void) -> c_int;

/// SpanDSP's G.722 at 64 kbit/s.
pub struct G722 {
    encode_init: G722Init,
    encode: G722Encode,
    encode_free: G722Free,
    decode_init: G722Init,
    decode: G722Decode,
    decode_free: G722Free,
    /// Keeps the functions above where they are.
    _library: Library,
}

impl G722 {
    /// Loads the library; the error says why it cannot be used, for the caller to print.
    pub fn load() -> Result<Self, String> {
        let library = load("libspandsp.so.2")?;
        Ok(Self {
            encode_init: symbol(&library, "g722_encode_init")?,
            encode: symbol(&library, "g722_encode")?,
            encode_free: symbol(&library, "g722_encode_free")?,
            decode_init: symbol(&library, "g722_decode_init")?,
            decode: symbol(&library, "g722_decode")?,
            decode_free: symbol(&library, "g722_decode_free")?,
            _library: library,
        })
    }

    /// Codes a whole stream of 16 kHz samples; nothing where the library has no memory.
    pub fn encode(&self, samples: &[i16]) -> Vec<u8> {
        let mut bytes = vec![0; samples.len() / 2 + 1];
        let count = c_int::try_from(samples.len()).unwrap_or(c_int::MAX);
        // SAFETY: a null state asks for a new one, freed below; both buffers hold what the counts say.
        let written = unsafe {
            let state = (self.encode_init)(std::ptr::null_mut(), 64_000, 0);
            if state.is_null() {
                return Vec::new();
            }
            let written = (self.encode)(state, bytes.as_mut_ptr(), samples.as_ptr(), count);
            (self.encode_free)(state);
            written
        };
        bytes.truncate(usize::try_from(written).unwrap_or(0));
        bytes
    }

    /// Decodes a whole stream to 16 kHz samples.
    pub fn decode(&self, bytes: &[u8]) -> Vec<i16> {
        let mut samples = vec![0; bytes.len() * 2 + 2];
        let count = c_int::try_from(bytes.len()).unwrap_or(c_int::MAX);
        // SAFETY: as above.
        let written = unsafe {
            let state = (self.decode_init)(std::ptr::null_mut(), 64_000, 0);
            if state.is_null() {
                return Vec::new();
            }
            let written = (self.decode)(state, samples.as_mut_ptr(), bytes.as_ptr(), count);
            (self.decode_free)(state);
            written
        };
        samples.truncate(usize::try_from(written).unwrap_or(0));
        samples
    }
}

type OpusCreateEncoder = unsafe extern "C" fn(i32, c_int, c_int, *mut c_int) -> *mut c_void;
type OpusCreateDecoder = unsafe extern "C" fn(i32, c_int, *mut c_int) -> *mut c_void;
type OpusEncode = unsafe extern "C" fn(*mut c_void, *const i16, c_int, *mut u8, i32) -> i32;
type OpusDecode = unsafe extern "C" fn(*mut c_void, *const u8, i32, *mut i16, c_int, c_int) -> c_int;
type OpusControl = unsafe extern "C" fn(*mut c_void, c_int, ...) -> c_int;
type OpusFree = unsafe extern "C" fn(*mut c_void);

const APPLICATION_VOIP: c_int = 2_048;
const SET_BITRATE: c_int = 4_002;
const SET_VBR: c_int = 4_006;
const SET_IN_BAND_FEC: c_int = 4_012;
const SET_PACKET_LOSS: c_int = 4_014;

/// libopus.
pub struct Opus {
    encoder: OpusCreateEncoder,
    encode: OpusEncode,
    encoder_control: OpusControl,
    encoder_free: OpusFree,
    decoder: OpusCreateDecoder,
    decode: OpusDecode,
    decoder_free: OpusFree,
    /// Keeps the functions above where they are.
    _library: Library,
}

/// How libopus is to encode.
#[derive(Debug, Clone, Copy)]
pub struct OpusSettings {
    /// Rate of the samples in Hz.
    pub rate: i32,
    /// 1 or 2; interleaved.
    pub channels: c_int,
    /// bit/s.
    pub bitrate: i32,
    /// Whether packets vary in size.
    pub variable: bool,
    /// Whether each packet carries a coarse copy of the one before.
    pub fec: bool,
    /// Samples of one channel in a packet.
    pub frame: c_int,
}

impl Opus {
    /// Loads the library; the error says why it cannot be used, for the caller to print.
    pub fn load() -> Result<Self, String> {
        let library = load("libopus.so.0")?;
        Ok(Self {
            encoder: symbol(&library, "opus_encoder_create")?,
            encode: symbol(&library, "opus_encode")?,
            encoder_control: symbol(&library, "opus_encoder_ctl")?,
            encoder_free: symbol(&library, "opus_encoder_destroy")?,
            decoder: symbol(&library, "opus_decoder_create")?,
            decode: symbol(&library, "opus_decode")?,
            decoder_free: symbol(&library, "opus_decoder_destroy")?,
            _library: library,
        })
    }

    /// Codes a whole stream, packet by packet; what does not fill a packet is left out.
    pub fn encode(&self, settings: OpusSettings, samples: &[i16]) -> Vec<Vec<u8>> {
        let mut fault = 0;
        let whole = settings.frame as usize * settings.channels as usize;
        // SAFETY: the state is made and freed here; the controls are variadic with one `opus_int32` each; a packet's
        // samples and the room for its bytes are what the counts say.
        unsafe {
            let state = (self.encoder)(settings.rate, settings.channels, APPLICATION_VOIP, &raw mut fault);
            if state.is_null() {
                return Vec::new();
            }
            (self.encoder_control)(state, SET_BITRATE, settings.bitrate);
            (self.encoder_control)(state, SET_VBR, c_int::from(settings.variable));
            (self.encoder_control)(state, SET_IN_BAND_FEC, c_int::from(settings.fec));
            (self.encoder_control)(state, SET_PACKET_LOSS, if settings.fec { 20 as c_int } else { 0 });
            let packets = samples.chunks_exact(whole).map(|frame| {
                let mut packet = vec![0u8; 1_275];
                let length =
                    (self.encode)(state, frame.as_ptr(), settings.frame, packet.as_mut_ptr(), packet.len() as i32);
                packet.truncate(usize::try_from(length).unwrap_or(0));
                packet
            });
            let packets = packets.collect();
            (self.encoder_free)(state);
            packets
        }
    }

    /// Decodes a whole stream to mono samples at `rate` Hz.
    pub fn decode(&self, rate: i32, packets: &[Vec<u8>]) -> Vec<i16> {
        let mut fault = 0;
        let longest = rate / 1_000 * 120;
        // SAFETY: as above.
        unsafe {
            let state = (self.decoder)(rate, 1, &raw mut fault);
            if state.is_null() {
                return Vec::new();
            }
            let mut all = Vec::new();
            for packet in packets {
                let mut samples = vec![0i16; longest as usize];
                let length =
                    (self.decode)(state, packet.as_ptr(), packet.len() as i32, samples.as_mut_ptr(), longest, 0);
                all.extend_from_slice(&samples[..usize::try_from(length).unwrap_or(0)]);
            }
            (self.decoder_free)(state);
            all
        }
    }
}
