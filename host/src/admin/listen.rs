//! Connections: how many, for how long, and over TLS.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::net::sockopt::set_tcp_user_timeout;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tower::ServiceExt;

use super::tls::Tls;

/// Connections at once; and of one address that is not this machine's.
const CONNECTIONS: usize = 256;
const FROM_ONE: usize = 64;

/// What a caller may take to prove who it is, and to send the head of a request; also between two of them.
const HANDSHAKE: Duration = Duration::from_secs(10);
const HEAD: Duration = Duration::from_secs(15);

/// A caller that takes nothing of what it is sent for so long is gone. In milliseconds.
const STANDSTILL: u32 = 30_000;

/// A connection ends after so long, whatever it is used for: more than a tap takes.
const LONGEST: Duration = Duration::from_secs(2 * 3600);

/// Bytes of a request's head.
const HEAD_BYTES: usize = 32 << 10;

/// When no connection can be accepted, as there are no descriptors left, it is tried again after so long.
const TRY_AGAIN: Duration = Duration::from_millis(100);

/// Who is at the other end of a request's connection.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub IpAddr);

/// Accepts connections for ever.
pub async fn accept(listener: TcpListener, tls: Option<Arc<Tls>>, router: Router) {
    let open = Arc::new(Open::default());
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                if !is_of_connection(&error) {
                    tracing::warn!("the admin server cannot accept connections: {error}");
                    sleep(TRY_AGAIN).await;
                }
                continue;
            }
        };
        // Who comes when there are too many is sent away, so that those who wait are not held up by those who do not go.
        let Some(place) = open.take(peer) else { continue };
        let (tls, router) = (tls.clone(), router.clone());
        tokio::spawn(async move {
            let _place = place;
            serve(stream, peer.ip(), tls, router).await;
        });
    }
}

fn is_of_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

async fn serve(stream: TcpStream, peer: IpAddr, tls: Option<Arc<Tls>>, router: Router) {
    // Answers are small: they need not wait for more.
    let _ = stream.set_nodelay(true);
    if let Err(error) = set_tcp_user_timeout(&stream, STANDSTILL) {
        tracing::debug!("a connection without a time limit: {error}");
    }
    match tls {
        None => speak(stream, peer, router).await,
        Some(tls) => match timeout(HANDSHAKE, tls.acceptor().accept(stream)).await {
            Ok(Ok(stream)) => speak(stream, peer, router).await,
            Ok(Err(error)) => tracing::debug!(%peer, "TLS: {error}"),
            Err(_) => tracing::debug!(%peer, "TLS: it took too long"),
        },
    }
}

async fn speak(stream: impl AsyncRead + AsyncWrite + Unpin, peer: IpAddr, router: Router) {
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(Peer(peer));
        router.clone().oneshot(request)
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(HEAD_BYTES).half_close(false);
    match timeout(LONGEST, http.serve_connection(TokioIo::new(stream), service)).await {
        Ok(Ok(())) | Err(_) => {}
        Ok(Err(error)) => tracing::debug!(%peer, "{error}"),
    }
}

/// Connections that are open.
#[derive(Default)]
struct Open(Mutex<HashMap<IpAddr, usize>>);

struct Place {
    open: Arc<Open>,
    peer: IpAddr,
}

impl Open {
    fn take(self: &Arc<Self>, peer: SocketAddr) -> Option<Place> {
        let peer = peer.ip().to_canonical();
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = open.values().sum();
        let own = open.get(&peer).copied().unwrap_or(0);
        if all >= CONNECTIONS || own >= FROM_ONE && !peer.is_loopback() {
            return None;
        }
        open.insert(peer, own + 1);
        Some(Place { open: self.clone(), peer })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.open.0.lock().unwrap_or_else(PoisonError::into_inner);
        match open.get_mut(&self.peer) {
            Some(count) if *count > 1 => *count -= 1,
            _ => _ = open.remove(&self.peer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_counted_by_address() {
        let open = Arc::new(Open::default());
        let peer = |last: u8| SocketAddr::from(([10, 0, 0, last], 1));
        let mut first: Vec<_> = (0..FROM_ONE).map(|_| open.take(peer(1)).unwrap()).collect();
        assert!(open.take(peer(1)).is_none());
        first.pop();
        assert!(open.take(peer(1)).is_some());
        let local = SocketAddr::from(([127, 0, 0, 1], 1));
        let others: Vec<_> = (0..CONNECTIONS - first.len()).map(|_| open.take(local).unwrap()).collect();
        assert!(open.take(peer(2)).is_none());
        drop((first, others));
        assert!(open.0.lock().unwrap().is_empty());
    }
}
