//! What the admin server may do with an agent.

use std::sync::Arc;

use anyhow::{Context, Result};
use bytes::Bytes;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Receiver, channel};

use super::files::keep;
use super::keeper::Applied;
use super::plugins::{chain, given_to};
use super::uploads::joined;
use super::{Agent, settings};
use crate::books::Books;
use crate::config::{Config, Logstore, LogstoreName};
use crate::control::{
    Candidate, Control, FILES, Health, LogstoreStatus, MORE_FILES, NotReloaded, Reloaded, Status, Tap,
};
use crate::event::Batch;
use crate::lane;
use crate::lane::orders::Order;
use crate::registry::Registry;
use crate::sandbox::{Chain, Given, Log, Sandbox};
use crate::sink::ndjson::Ndjson;
use crate::source;

/// Events that are shown of a batch at most.
const SAMPLE: usize = 20;

/// Events that wait for whoever looks on.
const WAITING: usize = 256;

impl Control for Agent {
    fn config(&self) -> Arc<Config> {
        Agent::config(self)
    }

    fn registry(&self) -> &Registry {
        &self.registry
    }

    fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    fn given(&self, name: &LogstoreName) -> Given {
        let slot = |logstore: &Logstore| given_to(logstore, logstore.upload_slot().unwrap_or(0));
        self.logstore_of(name).map(|logstore| slot(&logstore)).unwrap_or_default()
    }

    fn health(&self) -> Health {
        self.look_at_health()
    }

    fn status(&self, project: Option<&str>) -> Status {
        self.look_at_all(project, FILES)
    }

    fn logstore(&self, name: &LogstoreName) -> Option<LogstoreStatus> {
        self.look_at_one(&name.to_string(), MORE_FILES)
    }

    fn books(&self) -> Books {
        Agent::books(self)
    }

    fn recent(&self, name: &LogstoreName, bytes: usize) -> Result<Vec<Batch>> {
        let settings = settings::source(&self.logstore_of(name)?.files, self.tags.clone())?;
        source::recent(&settings, bytes)
    }

    fn chain(&self, name: &LogstoreName, candidate: Option<&Candidate>) -> Result<Chain> {
        let logstore = self.logstore_of(name)?;
        let (budget, lane) = {
            let running = self.running();
            (running.tenants[&name.project].budget.clone(), running.lanes.get(&name.to_string()).cloned())
        };
        let mut plugins = self.plugins();
        let used = match candidate {
            None => plugins.resolve(&logstore),
            Some(Candidate { plugin, settings }) => plugins.resolve_candidate(&logstore, plugin.clone(), settings),
        };
        let mut used = used.map_err(joined)?;
        if let Some(lane) = &lane {
            keep(&mut used, &lane.used);
        }
        chain(&used, logstore.on_fault, &budget).map_err(joined)
    }

    fn apply(&self, name: &LogstoreName) -> Result<bool> {
        self.apply_choice(name)
    }

    fn reload(&self) -> Result<Reloaded, NotReloaded> {
        let Applied { changed, warnings } = self.reload_file().map_err(|error| NotReloaded(format!("{error:#}")))?;
        Ok(Reloaded {
            added: changed.added.into_iter().collect(),
            removed: changed.removed.into_iter().collect(),
            changed: changed.plugins.into_iter().chain(changed.restarted).collect(),
            unchanged: changed.untouched as u64,
            warnings,
        })
    }

    fn log(&self, name: &LogstoreName) -> Log {
        self.logs.of(&name.to_string())
    }

    fn tap(&self, name: &LogstoreName, tap: Tap) -> Result<Receiver<Bytes>> {
        let (events, shown) = channel(WAITING);
        let mut left = tap.limit;
        let show: lane::Tap = Box::new(move |before, after| {
            for event in sample(if tap.before { before } else { after }, left) {
                match events.try_send(event) {
                    Ok(()) => left -= 1,
                    // Whoever looks on is slower.
                    Err(TrySendError::Full(_)) => {}
                    Err(TrySendError::Closed(_)) => return false,
                }
            }
            left > 0 && !events.is_closed()
        });
        let running = self.running();
        let lane = running.lanes.get(&name.to_string()).context("this logstore does not run")?;
        lane.orders.give(Order::Tap(show));
        Ok(shown)
    }
}

/// Some of a batch's events, so many at most, each as a line.
fn sample(batch: &Batch, most: u64) -> Vec<Bytes> {
    let count = batch.len().min(SAMPLE).min(usize::try_from(most).unwrap_or(usize::MAX));
    let line = |index: usize| {
        let event = batch.part(index..index + 1);
        Bytes::copy_from_slice(Ndjson::default().lines(&event).as_slice())
    };
    // Not the first ones alone.
    (0..count).map(|number| line(number * batch.len() / count)).collect()
}
