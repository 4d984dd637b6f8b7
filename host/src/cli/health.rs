//! `weir health`: whether a running agent works, for a container's probes.

use std::time::Duration;

use super::client::{Failure, Whom};
use super::screen::{harmless, print};
use crate::admin::{HealthAnswer, Problem};

/// A probe that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(2);

/// Say whether a running agent works: the exec probe of a container
///
/// Alive is an agent whose workers turn and whose checkpoint is written; only a restart helps if it is not. Exits with 0 if
/// all is well, and with 1 and a line why if not, within two seconds. It needs no token; with the operator's it says more.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    whom: Whom,
    /// Whether it also does its work: it is not ending
    #[arg(long)]
    ready: bool,
}

/// The agent does not work, or nothing is known of it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unhealthy(String);

pub fn run(args: &Args) -> anyhow::Result<()> {
    // A line, without hints.
    let first = |error: anyhow::Error| format!("{error:#}").lines().next().unwrap_or_default().to_owned();
    let said = look(args).map_err(|error| Unhealthy(harmless(&first(error))))?;
    print(&format!("{}\n", harmless(&said)))
}

/// What is to be said of an agent that works.
fn look(args: &Args) -> anyhow::Result<String> {
    let client = args.whom.client_of_anybody()?;
    let (path, word) = if args.ready { ("/readyz", "ready") } else { ("/healthz", "alive") };
    let answer = client.block_on(async { tokio::time::timeout(PATIENCE, client.health(path)).await });
    let address = client.address().to_owned();
    client.abandon();
    let late = |_| Failure::NoAnswer(format!("the agent at {address} does not answer within 2 s"));
    let (status, body) = answer.map_err(late)??;
    let Ok(HealthAnswer { ok, details }) = serde_json::from_slice(&body) else {
        let said = serde_json::from_slice(&body).map_or_else(|_| status.to_string(), |said: Problem| said.error);
        anyhow::bail!("{address} does not say whether it is {word}: {said}");
    };
    let why = if details.is_empty() { String::new() } else { format!(": {}", details.join("; ").replace('\n', "; ")) };
    anyhow::ensure!(ok && status.is_success(), "not {word}{why}");
    Ok(format!("{word}{why}"))
}
