//! The HTTP server under the control API: accepts connections, bounds them in number and patience, ends them at
//! shutdown. It knows no route; the router comes from [`crate::control`].

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::control::Peer;

/// Connections at once; further ones wait in the kernel's queue.
const MOST_CONNECTIONS: usize = 512;

/// A connection that has not sent its request headers by then is closed (slow-loris).
const HEADER_PATIENCE: Duration = Duration::from_secs(10);

/// How long requests in flight may take to end at shutdown.
const FAREWELL: Duration = Duration::from_secs(3);

/// After a failed accept (file descriptors used up) the server rests before it tries again.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// Serves `router` on `listener` until `shutdown` turns true; then no connection is taken any more, requests in flight
/// get three seconds, and what is left is cut. Event streams end by themselves if the caller has closed the
/// [`crate::control::history::History`].
pub async fn serve(listener: TcpListener, router: Router, mut shutdown: watch::Receiver<bool>) {
    let permits = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            // A closed channel means that whoever could say "stop" is gone.
            _ = shutdown.wait_for(|stop| *stop) => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
            accepted = accept(&listener, &permits) => accepted,
        };
        let (stream, peer, permit) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "HTTP connection not accepted");
                tokio::time::sleep(ACCEPT_REST).await;
                continue;
            }
        };
        // Without it small event frames would wait for the peer's acknowledgement.
        let _ = stream.set_nodelay(true);
        let router = TowerToHyperService::new(router.clone());
        let service = service_fn(move |mut request: hyper::Request<Incoming>| {
            // Who asks, for the audit log: the address of the connection, whatever a header says.
            request.extensions_mut().insert(Peer(peer.to_canonical()));
            router.call(request)
        });
        let mut stop = shutdown.clone();
        connections.spawn(async move {
            let mut connection = std::pin::pin!(
                http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEADER_PATIENCE)
                    .max_buf_size(64 * 1024)
                    .serve_connection(TokioIo::new(stream), service)
                    // A WebSocket goes on by itself, and ends with the event log.
                    .with_upgrades()
            );
            tokio::select! {
                // A peer that breaks off or sends no HTTP is its own affair.
                _ = connection.as_mut() => return,
                _ = stop.wait_for(|stop| *stop) => connection.as_mut().graceful_shutdown(),
            }
            let _ = connection.await;
            drop(permit);
        });
    }
    drop(listener);
    let farewell = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(FAREWELL, farewell).await.is_err() {
        tracing::debug!("HTTP connections cut at shutdown");
    }
}

async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> std::io::Result<(tokio::net::TcpStream, IpAddr, tokio::sync::OwnedSemaphorePermit)> {
    let permit = permits.clone().acquire_owned().await.map_err(std::io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    Ok((stream, peer.ip(), permit))
}
