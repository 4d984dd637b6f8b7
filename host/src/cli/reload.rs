//! `weir reload`: has a running agent read its configuration again.

use anyhow::Result;
use reqwest::StatusCode;

use super::client::{Failure, Whom};
use super::screen::{harmless, on_one_line, print, print_json};
use crate::control::Reloaded;

/// Have a running agent read its configuration again
///
/// Says what has changed. If the configuration is wrong, the agent goes on with the one before; it is said what is wrong,
/// and the exit code is 78. It needs the operator's token.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    whom: Whom,
    /// What the agent answers, as JSON
    #[arg(long)]
    json: bool,
}

/// The configuration is wrong, line by line.
#[derive(Debug, thiserror::Error)]
#[error("{0}\nthe agent goes on with the configuration before")]
pub struct NotApplied(String);

pub fn run(args: &Args) -> Result<()> {
    let answer = args.whom.client()?.post::<Reloaded>("/v1/reload", |request| request);
    let reloaded = answer.map_err(|error| match error.downcast_ref() {
        Some(Failure::Refused(refused)) if refused.status == StatusCode::UNPROCESSABLE_ENTITY => {
            NotApplied(harmless(&refused.problem.error)).into()
        }
        _ => error,
    })?;
    if args.json {
        return print_json(&reloaded);
    }
    reloaded.warnings.iter().for_each(|warning| complain!("warning: {}", harmless(warning)));
    print(&text(&reloaded))
}

fn text(reloaded: &Reloaded) -> String {
    let Reloaded { added, removed, changed, unchanged, .. } = reloaded;
    let kinds = [("added", added), ("removed", removed), ("changed", changed)];
    let named = kinds.iter().flat_map(|(kind, names)| names.iter().map(move |name| (kind, name)));
    let lines: String = named.map(|(kind, name)| format!("{kind}: {}\n", on_one_line(name))).collect();
    format!("{lines}unchanged: {unchanged}\n")
}
