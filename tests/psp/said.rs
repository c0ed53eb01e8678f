//! What is logged of payments: ids and outcomes, whatever a provider says back.

use std::io::Write;
use std::sync::{Arc, Mutex};

use tonewall::psp::Outcome;

use crate::kit::{Desk, KEY, charge, config, preset};
use crate::server::{Act, Server};

/// Everything that is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("the log").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn an_error_page_that_repeats_the_card_is_not_logged() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(move || writer.clone()).finish();
    // The gateway's thread is started under it; other tests of this program log into it too, which does no harm.
    tracing::subscriber::set_global_default(subscriber).expect("the only subscriber");
    let server = Server::start(|request| {
        let body = String::from_utf8_lossy(&request.body).into_owned();
        match request.header("authorization") {
            Some(key) => Act::Answer(402, format!(r#"{{"error":{{"code":"{body} {key}","message":"{body}"}}}}"#)),
            None => Act::Cut,
        }
    });
    let directory = tempfile::tempdir().expect("a directory");
    let config = config(&preset("stripe", &server.url(), ""), directory.path());
    let mut desk = Desk::open(&config);
    let outcome = desk.pay(charge(901, "4242424242424242"));
    let Outcome::Declined { code } = outcome else { panic!("{outcome:?}") };
    assert_eq!(code, "declined");
    drop(desk);
    let text = String::from_utf8(log.0.lock().expect("the log").clone()).expect("text");
    assert!(text.contains("payment declined"), "{text}");
    assert!(!text.contains("424242") && !text.contains(KEY), "{text}");
}
