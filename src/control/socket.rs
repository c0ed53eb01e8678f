//! Events over a WebSocket (RFC 6455): the same as the event streams carry, one text message each, for who cannot read
//! server-sent events. Nothing the peer sends is read but that it is still there. A peer that reads too slowly misses
//! events and is told how many, or is cut; it holds nobody up.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade, close_code};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;

use super::access::{Access, Pass};
use super::history::{Read, Reader};
use super::problem::Problem;
use super::sight::Sight;
use super::{Api, STREAMS};
use crate::obs::event::Event;
use crate::obs::metrics::Metrics;

/// How often the key of a socket is looked up: whoever takes it away cuts the socket by then.
const TICK: Duration = Duration::from_secs(1);

/// Ticks between two pings.
const PING: u32 = 15;

/// Ticks without a word of the peer (a pong at least) after which it is taken for gone.
const SILENCE: u32 = 60;

/// How long one message may take to leave.
const PATIENCE: Duration = Duration::from_secs(10);

/// The most bytes of a message of the peer; none has a meaning.
const MOST: usize = 1_024;

/// An event as a message: its id for resuming, and itself.
#[derive(Serialize)]
struct Told<'a> {
    id: &'a str,
    #[serde(flatten)]
    event: &'a Event,
}

/// What a socket runs on.
struct Open {
    reader: Reader,
    access: Arc<Access>,
    pass: Pass,
    clock: Arc<dyn Fn() -> Instant + Send + Sync>,
    metrics: Arc<Metrics>,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.metrics.stream(-1);
    }
}

/// Answers the upgrade and follows `reader` until it ends, the peer goes, or its key is taken away.
pub(super) fn follow(upgrade: WebSocketUpgrade, reader: Reader, api: &Api, pass: Pass) -> Response {
    let Ok(permit) = api.sockets.clone().try_acquire_owned() else {
        return Problem::unavailable(&format!("{STREAMS} WebSockets are open; no further one is taken"))
            .into_response();
    };
    api.metrics.stream(1);
    let (access, clock, metrics) = (api.access.clone(), api.clock.clone(), api.metrics.clone());
    let open = Open { reader, access, pass, clock, metrics, _permit: permit };
    upgrade.max_message_size(MOST).max_frame_size(MOST).on_upgrade(|socket| run(socket, open))
}

async fn run(mut socket: WebSocket, mut open: Open) {
    let mut ticks = tokio::time::interval(TICK);
    let (mut ping, mut silent) = (0, 0);
    let (code, reason) = loop {
        let message = tokio::select! {
            read = open.reader.next() => match read {
                Some(read) => text(&read, Sight::of(&open.pass)),
                None => break (close_code::NORMAL, "the stream is over"),
            },
            heard = socket.recv() => match heard {
                None | Some(Err(_) | Ok(Message::Close(_))) => return,
                Some(Ok(_)) => {
                    silent = 0;
                    continue;
                }
            },
            _ = ticks.tick() => {
                (ping, silent) = (ping + 1, silent + 1);
                if silent > SILENCE {
                    return;
                }
                if ping < PING {
                    Message::Text(Utf8Bytes::default())
                } else {
                    ping = 0;
                    Message::Ping(axum::body::Bytes::new())
                }
            }
        };
        if !open.access.still_knows((open.clock)(), &open.pass) {
            break (close_code::POLICY, "the key is no longer valid");
        }
        // A tick that only asked for the key.
        if matches!(&message, Message::Text(text) if text.is_empty()) {
            continue;
        }
        match tokio::time::timeout(PATIENCE, socket.send(message)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return,
        }
    };
    let close = Message::Close(Some(CloseFrame { code, reason: Utf8Bytes::from_static(reason) }));
    let _ = tokio::time::timeout(PATIENCE, socket.send(close)).await;
}

fn text(read: &Read, sight: Sight) -> Message {
    let text = match read {
        Read::Event(id, event) => {
            let event = &sight.event(event);
            serde_json::to_string(&Told { id, event }).unwrap_or_else(|_| "{}".to_owned())
        }
        Read::Missed(count) => format!("{{\"type\":\"missed\",\"missed\":{count}}}"),
    };
    Message::Text(text.into())
}
