//! The admin server: health, metrics, status and uploads over HTTP.
//!
//! ```text
//! listen (connections, tls) ──> guard (access, rate) ──> routes, plugins ──> control ──> the agent
//!                                                            └─ upload ─────────┘
//! ```
//!
//! - [`crate::control`] is all that it knows of the agent, and what it shows of it.
//! - [`upload`] takes a plugin from its bytes to a version that runs.
//! - `access` says whose a token is, `rate` how often whoever may call, `error` what they are told.
//! - [`openapi`] describes all of it.
//!
//! It has one thread of its own, of the lowest priority, and those on which the agent is asked: whatever is asked, and
//! however often, the workers don't notice. Who calls, and whether the agent works, is known without waiting, and answered
//! on the first one.

mod access;
mod error;
mod exposition;
mod guard;
mod listen;
mod plugins;
mod rate;
#[cfg(test)]
mod reference;
mod routes;
#[cfg(test)]
pub(crate) mod tests;
mod tls;
pub mod upload;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::net::TcpListener;
use tokio::runtime::{self, Runtime};
use tokio::sync::oneshot;

use crate::config::Admin;
use crate::control::Control;

pub use access::TOKEN_FILE;
pub use error::Problem;
pub use plugins::Versions;
pub use routes::{HealthAnswer, openapi};

use guard::App;
use tls::Tls;

/// Threads on which the agent is asked, as that may wait. They are there as long as they are used.
const BLOCKING: usize = 64;

/// What is being answered has so long to end when the server stops.
const GRACE: Duration = Duration::from_millis(500);

/// A server that answers until it is stopped.
pub struct Server {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Listens. Tokens are those of [`Control::config`], and one in `data_dir` for the operator if that has none.
    pub fn start(admin: &Admin, data_dir: &Path, control: Arc<dyn Control>) -> Result<Server> {
        let app = Arc::new(App::new(control, data_dir)?);
        let tls = admin.tls.as_ref().map(Tls::new).transpose()?.map(Arc::new);
        let (stop, stopped) = oneshot::channel();
        let (told, news) = mpsc::sync_channel(1);
        let listen = admin.listen;
        let serve = move || {
            // For this thread, and those that it starts.
            if let Err(error) = rustix::process::nice(19) {
                tracing::warn!("the admin server runs with the priority of workers: {error}");
            }
            let started = runtime().and_then(|runtime| {
                let listener = runtime.block_on(TcpListener::bind(listen))?;
                Ok((listener.local_addr()?, listener, runtime))
            });
            let (listener, runtime) = match started {
                Ok((address, listener, runtime)) => {
                    let _ = told.send(Ok(address));
                    (listener, runtime)
                }
                Err(error) => return drop(told.send(Err(error))),
            };
            runtime.block_on(async {
                tokio::select! {
                    () = listen::accept(listener, tls, routes::router(&app)) => {}
                    _ = stopped => {}
                }
            });
            runtime.shutdown_timeout(GRACE);
        };
        let thread = std::thread::Builder::new().name("admin".to_owned()).spawn(serve)?;
        let started = news.recv().context("the thread of the admin server has ended")?;
        let address = started.with_context(|| format!("the admin server cannot listen on {listen}"))?;
        tracing::info!(%address, tls = admin.tls.is_some(), "the admin server listens");
        Ok(Server { address, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn runtime() -> Result<Runtime> {
    let mut builder = runtime::Builder::new_current_thread();
    Ok(builder.enable_all().max_blocking_threads(BLOCKING).thread_name("admin").build()?)
}
