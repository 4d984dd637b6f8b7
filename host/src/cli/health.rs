//! `weir health`: whether a running agent works, for a container's probes.

use std::time::Duration;

use super::client::{Failure, Whom};
use super::screen::{on_one_line, print};
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
    let said = look(args).map_err(|error| Unhealthy(on_one_line(&format!("{error:#}"))))?;
    print(&format!("{}\n", on_one_line(&said)))
}

/// What is to be said of an agent that works.
fn look(args: &Args) -> anyhow::Result<String> {
    let client = args.whom.client_of_anybody()?;
    let (path, word) = if args.ready { ("/readyz", "ready") } else { ("/healthz", "alive") };
    let answer = client.block_on(async { tokio::time::timeout(PATIENCE, client.health(path)).await });
    let late = |_| Failure::NoAnswer(format!("the agent at {} does not answer within 2 s", client.address()));
    let (status, body) = answer.map_err(late)??;
    let Ok(HealthAnswer { ok, details }) = serde_json::from_slice(&body) else {
        let said = serde_json::from_slice(&body).map_or_else(|_| status.to_string(), |said: Problem| said.error);
        anyhow::bail!("{} does not say whether it is {word}: {said}", client.address());
    };
    let why = if details.is_empty() { String::new() } else { format!(": {}", details.join("; ")) };
    anyhow::ensure!(ok && status.is_success(), "not {word}{why}");
    Ok(format!("{word}{why}"))
}
