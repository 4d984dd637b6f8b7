//! A thread for what takes CPU time that is nobody's turn: taking payloads apart that were refused.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError, mpsc};

use tokio::sync::oneshot;

type Work = Box<dyn FnOnce() + Send>;

/// How much nicer it is to others than they are: it goes on beside workers that want all there is, slowly.
const NICE: i32 = 10;

/// One thread, which is started when it is first needed. What it is given is done in that order, so that a tenant whose
/// payloads are refused all the time takes no more than that from all others, in CPU time and memory.
#[derive(Default)]
pub struct Aside(Mutex<Option<mpsc::Sender<Work>>>);

impl Aside {
    /// What the work gives; nothing if it panics, or if there is no thread.
    pub async fn run<R: Send + 'static>(&self, work: impl FnOnce() -> R + Send + 'static) -> Option<R> {
        let (give, result) = oneshot::channel();
        self.give(Box::new(move || {
            // The panic has been told of.
            if let Ok(result) = catch_unwind(AssertUnwindSafe(work)) {
                let _ = give.send(result);
            }
        }));
        result.await.ok()
    }

    fn give(&self, work: Work) {
        let mut thread = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if thread.is_none() {
            *thread = start();
        }
        if let Some(thread) = &*thread {
            let _ = thread.send(work);
        }
    }
}

fn start() -> Option<mpsc::Sender<Work>> {
    let (give, take) = mpsc::channel::<Work>();
    let work = move || {
        let _ = rustix::process::nice(NICE);
        take.into_iter().for_each(|work| work());
    };
    match std::thread::Builder::new().name("split".to_owned()).spawn(work) {
        Ok(_) => Some(give),
        Err(error) => {
            tracing::error!("cannot start a thread that takes payloads apart: {error}; trying again");
            None
        }
    }
}
