//! One connection, TCP or TLS: a reading side that frames messages, a writing side with a bounded queue, and the
//! keep-alive of RFC 5626 section 3.5.1 on connections that we opened.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

use super::Inbound;
use crate::sip::endpoint::Flow;
use crate::sip::msg::{Frame, Framer};

/// Bytes asked for from a connection at once.
const READ: usize = 16 * 1024;
/// A connection that sends no whole message for this long is closed.
const IDLE: Duration = Duration::from_secs(600);
/// A peer that reads nothing for this long is closed.
const STUCK: Duration = Duration::from_secs(10);
/// How long the last reply on a broken connection may take.
const LAST_REPLY: Duration = Duration::from_millis(500);
/// How long a peer that answers keep-alives may take for it, at most.
const PONG: Duration = Duration::from_secs(10);

/// What both sides of a connection tell each other.
#[derive(Default)]
struct Pulse {
    /// Something came since the last ping.
    heard: AtomicBool,
    /// The peer has answered a ping with a lone CRLF: it knows RFC 5626, and silence means that it is gone.
    answers: AtomicBool,
}

/// Reads and writes one connection until either side ends it, then says so. `keepalive`: how often we ping.
pub(super) async fn carry<R, W>(
    (reader, writer): (R, W),
    (flow, ours): (Flow, bool),
    queue: mpsc::Receiver<Bytes>,
    inbox: mpsc::Sender<Inbound>,
    keepalive: Option<Duration>,
) where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let pulse = Pulse::default();
    {
        let mut writing = std::pin::pin!(write(writer, queue, &pulse, keepalive));
        tokio::select! {
            ended = read(reader, &flow, &inbox, &pulse, keepalive.is_some()) => {
                if ended == Ended::Broken {
                    // The peer is told what was wrong before the connection goes.
                    let _ = timeout(LAST_REPLY, &mut writing).await;
                }
            }
            () = &mut writing => {}
        }
    }
    let _ = inbox.send(Inbound::Closed { flow, ours }).await;
}

/// How the reading side of a connection ended.
#[derive(PartialEq, Eq)]
enum Ended {
    /// Closed, idle, or the node is ending.
    Quietly,
    /// Its framing cannot be trusted any more.
    Broken,
}

async fn read<R: AsyncRead + Unpin>(
    mut reader: R,
    flow: &Flow,
    inbox: &mpsc::Sender<Inbound>,
    pulse: &Pulse,
    pings: bool,
) -> Ended {
    let mut framer = Framer::new();
    let mut buffer = vec![0; READ];
    let mut idle_at = Instant::now() + IDLE;
    loop {
        let len = tokio::select! {
            read = reader.read(&mut buffer) => match read {
                Ok(len) if len > 0 => len,
                _ => return Ended::Quietly,
            },
            () = sleep_until(idle_at) => return Ended::Quietly,
        };
        pulse.heard.store(true, Ordering::Relaxed);
        if pings && &buffer[..len] == b"\r\n" && framer.buffered() == 0 {
            pulse.answers.store(true, Ordering::Relaxed);
            idle_at = Instant::now() + IDLE;
            continue;
        }
        framer.push(&buffer[..len]);
        while let Some(frame) = framer.next_frame() {
            idle_at = Instant::now() + IDLE;
            let (inbound, broken) = match frame {
                Ok(Frame::Message(bytes)) => (Inbound::Message { flow: *flow, bytes }, false),
                Ok(Frame::KeepAlive) => (Inbound::KeepAlive { flow: *flow }, false),
                // Where the next message starts is a guess from here on: answer from the head, then close.
                Err(error) => (Inbound::Broken { flow: *flow, error }, true),
            };
            if inbox.send(inbound).await.is_err() {
                return Ended::Quietly;
            }
            if broken {
                return Ended::Broken;
            }
        }
    }
}

async fn write<W: AsyncWrite + Unpin>(
    mut writer: W,
    mut queue: mpsc::Receiver<Bytes>,
    pulse: &Pulse,
    keepalive: Option<Duration>,
) {
    let far = Duration::from_secs(86_400 * 365);
    let every = keepalive.unwrap_or(far);
    let mut ping_at = Instant::now() + every;
    let mut pong_by: Option<Instant> = None;
    loop {
        let wake = pong_by.map_or(ping_at, |by| by.min(ping_at));
        let bytes = tokio::select! {
            bytes = queue.recv() => match bytes {
                Some(bytes) => bytes,
                None => break,
            },
            () = sleep_until(wake) => {
                let now = Instant::now();
                let silent = !pulse.heard.load(Ordering::Relaxed) && pulse.answers.load(Ordering::Relaxed);
                if pong_by.is_some_and(|by| by <= now) {
                    if silent {
                        return;
                    }
                    pong_by = None;
                    continue;
                }
                ping_at = now + every;
                pong_by = Some(now + PONG.min(every.mul_f32(0.9)));
                pulse.heard.store(false, Ordering::Relaxed);
                Bytes::from_static(b"\r\n\r\n")
            }
        };
        let written = async {
            writer.write_all(&bytes).await?;
            writer.flush().await
        };
        match timeout(STUCK, written).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return,
        }
    }
    // TLS says goodbye, so that the peer can tell an end from a cut.
    let _ = timeout(LAST_REPLY, writer.shutdown()).await;
}
