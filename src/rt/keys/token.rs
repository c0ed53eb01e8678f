//! A key in a PKCS#11 token (HSM, smart card, SoftHSM): the token wraps and unwraps data keys by AES-256-GCM inside itself,
//! and the key never leaves it. One thread has the session; an operation that takes too long is given up, so that a token
//! that hangs holds up no recording for longer than its `timeout_s`.
//!
//! A token makes nothing of ours last: when it is away, recordings fail at once and the recording policy decides.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::aead::GcmParams;
use cryptoki::object::{Attribute, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::types::AuthPin;
use zeroize::Zeroizing;

use super::first_line;
use crate::config::KekToken;
use crate::record::keys::{Kek, WRAPPED, Wrapper};

const TAG_BITS: u64 = 128;

/// Opens the token and finds the key in it.
///
/// # Errors
/// Why it cannot be used; never the PIN.
pub fn open(id: &str, place: &KekToken) -> Result<Kek, String> {
    let (orders, queue) = mpsc::channel();
    let (opened, answer) = mpsc::channel();
    let (kept, timeout) = (place.clone(), place.timeout);
    std::thread::Builder::new()
        .name("token".into())
        .spawn(move || serve(&kept, &opened, &queue))
        .map_err(|error| error.to_string())?;
    let fingerprint = answer
        .recv_timeout(timeout)
        .map_err(|_| format!("the token does not answer within {} s", timeout.as_secs()))??;
    let token = Token { orders: std::sync::Mutex::new(orders), timeout };
    Kek::elsewhere(id, fingerprint, Arc::new(token)).map_err(|error| error.to_string())
}

/// A door to the thread that has the session.
struct Token {
    orders: std::sync::Mutex<Sender<Order>>,
    timeout: Duration,
}

struct Order {
    what: What,
    nonce: [u8; 12],
    aad: Vec<u8>,
    text: Zeroizing<Vec<u8>>,
    /// Nobody waits for it after this.
    until: Instant,
    answer: Sender<Result<Option<Zeroizing<Vec<u8>>>, String>>,
}

#[derive(Clone, Copy)]
enum What {
    Wrap,
    Unwrap,
}

impl Token {
    fn ask(&self, what: What, nonce: &[u8; 12], aad: &[u8], text: &[u8]) -> Result<Option<Zeroizing<Vec<u8>>>, String> {
        let (answer, answered) = mpsc::channel();
        let until = Instant::now() + self.timeout;
        let text = Zeroizing::new(text.to_vec());
        let order = Order { what, nonce: *nonce, aad: aad.to_vec(), text, until, answer };
        let orders = self.orders.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        orders.send(order).map_err(|_| "the token's thread is gone".to_owned())?;
        answered
            .recv_timeout(self.timeout)
            .map_err(|_| format!("the token does not answer within {} s", self.timeout.as_secs()))?
    }
}

impl Wrapper for Token {
    fn wrap(&self, nonce: &[u8; 12], aad: &[u8], dek: &[u8; 32]) -> Result<[u8; WRAPPED], String> {
        let wrapped = self.ask(What::Wrap, nonce, aad, dek)?.ok_or("the token gave nothing")?;
        wrapped[..].try_into().map_err(|_| format!("the token gave {} bytes for {WRAPPED}", wrapped.len()))
    }

    fn unwrap(
        &self,
        nonce: &[u8; 12],
        aad: &[u8],
        wrapped: &[u8; WRAPPED],
    ) -> Result<Option<Zeroizing<[u8; 32]>>, String> {
        let Some(text) = self.ask(What::Unwrap, nonce, aad, wrapped)? else { return Ok(None) };
        let mut dek = Zeroizing::new([0; 32]);
        match text.len() {
            32 => dek.copy_from_slice(&text),
            n => return Err(format!("the token gave {n} bytes for a data key")),
        }
        Ok(Some(dek))
    }
}

/// An open session and the key in it.
struct Opened {
    session: Session,
    key: ObjectHandle,
}

fn serve(place: &KekToken, opened: &Sender<Result<[u8; 8], String>>, queue: &Receiver<Order>) {
    let mut session = match connect(place).and_then(|session| Ok((fingerprint(&session)?, session))) {
        Ok((fingerprint, session)) => {
            // Who asked may have given up; then nobody sends orders either.
            let _ = opened.send(Ok(fingerprint));
            Some(session)
        }
        Err(why) => {
            let _ = opened.send(Err(why));
            return;
        }
    };
    while let Ok(order) = queue.recv() {
        if Instant::now() >= order.until {
            continue;
        }
        let mut done = session.as_ref().map_or_else(|| Err(String::new()), |session| carry_out(session, &order));
        if done.is_err() {
            // Taken out and put back, or its session forgotten: once more from the beginning.
            session = None;
            done = connect(place).and_then(|fresh| carry_out(session.insert(fresh), &order));
        }
        let _ = order.answer.send(done);
    }
}

fn carry_out(opened: &Opened, order: &Order) -> Result<Option<Zeroizing<Vec<u8>>>, String> {
    let mut nonce = order.nonce;
    let params = GcmParams::new(&mut nonce, &order.aad, TAG_BITS.into()).map_err(|error| error.to_string())?;
    let mechanism = Mechanism::AesGcm(params);
    let done = match order.what {
        What::Wrap => opened.session.encrypt(&mechanism, opened.key, &order.text),
        What::Unwrap => opened.session.decrypt(&mechanism, opened.key, &order.text),
    };
    match (order.what, done) {
        (_, Ok(text)) => Ok(Some(Zeroizing::new(text))),
        // What tokens say of a tag that is not right.
        (
            What::Unwrap,
            Err(Error::Pkcs11(
                RvError::EncryptedDataInvalid
                | RvError::EncryptedDataLenRange
                | RvError::GeneralError
                | RvError::DataInvalid,
                _,
            )),
        ) => Ok(None),
        (_, Err(error)) => Err(format!("the token refuses: {error}")),
    }
}

/// The tag of nothing under a nonce that is never drawn tells keys apart and nothing of them.
fn fingerprint(opened: &Opened) -> Result<[u8; 8], String> {
    let mut nonce = [0; 12];
    let params =
        GcmParams::new(&mut nonce, b"tonewall kek fingerprint v1", TAG_BITS.into()).map_err(|e| e.to_string())?;
    let tag = opened
        .session
        .encrypt(&Mechanism::AesGcm(params), opened.key, &[])
        .map_err(|error| format!("the key cannot encrypt by AES-GCM: {error}"))?;
    tag.first_chunk::<8>().copied().ok_or_else(|| "the token gave no tag".to_owned())
}

fn connect(place: &KekToken) -> Result<Opened, String> {
    let module = library(&place.module)?;
    let said = |what: &str, error: Error| format!("{what}: {error}");
    let slots =
        module.get_slots_with_initialized_token().map_err(|error| said("its tokens cannot be listed", error))?;
    let is_ours = |slot: &cryptoki::slot::Slot| {
        module.get_token_info(*slot).is_ok_and(|info| info.label().trim_end() == place.token)
    };
    let slot = slots.into_iter().find(is_ours).ok_or_else(|| format!("no token is labelled {:?}", place.token))?;
    let session = module.open_ro_session(slot).map_err(|error| said("no session", error))?;
    let pin = first_line(&place.pin)?;
    match session.login(UserType::User, Some(&AuthPin::new(pin.as_str().to_owned().into()))) {
        Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => {}
        Err(error) => return Err(said("the PIN is refused", error)),
    }
    let template = [
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::AES),
        Attribute::Label(place.label.as_bytes().to_vec()),
    ];
    let keys = session.find_objects(&template).map_err(|error| said("keys cannot be listed", error))?;
    match keys[..] {
        [key] => Ok(Opened { session, key }),
        [] => Err(format!("no AES key is labelled {:?}", place.label)),
        _ => Err(format!("{} AES keys are labelled {:?}", keys.len(), place.label)),
    }
}

/// A library is initialised once in a process, whoever asks.
fn library(path: &Path) -> Result<Pkcs11, String> {
    static OPEN: std::sync::Mutex<Vec<(std::path::PathBuf, Pkcs11)>> = std::sync::Mutex::new(Vec::new());
    let mut open = OPEN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some((_, module)) = open.iter().find(|(known, _)| known == path) {
        return Ok(module.clone());
    }
    let module = Pkcs11::new(path).map_err(|error| format!("{} cannot be loaded: {error}", path.display()))?;
    match module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {}
        Err(error) => return Err(format!("{} cannot be initialised: {error}", path.display())),
    }
    open.push((path.to_owned(), module.clone()));
    Ok(module)
}
