//! `weir tap`: events of a logstore, live, or what its plugins log.

use std::io::{self, ErrorKind, IsTerminal, Write};

use anyhow::Result;
use reqwest::Method;
use tokio::signal::ctrl_c;

use super::client::{self, Client, Whom};
use crate::config::LogstoreName;

/// Show events of a logstore as they come, a line of JSON each
///
/// Where they come too fast, some are left out. It disturbs nothing: what is slow to read them misses some. With --log
/// it is what the logstore's plugins log and why they fail, from the last lines on.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    whom: Whom,
    /// Whose events
    #[arg(value_name = "PROJECT/LOGSTORE")]
    logstore: LogstoreName,
    /// As they were read, not as plugins made them
    #[arg(long)]
    before: bool,
    /// What plugins log and why they fail, instead of events
    #[arg(long, conflicts_with = "before")]
    log: bool,
    /// End after so many
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    limit: u64,
}

pub fn run(args: &Args) -> Result<()> {
    let client = args.whom.client()?;
    client.block_on(async {
        tokio::select! {
            told = copy(&client, args) => told,
            _ = ctrl_c() => Ok(()),
        }
    })
}

async fn copy(client: &Client, args: &Args) -> Result<()> {
    let what = match args.log {
        true => "log?follow=true".to_owned(),
        false => format!("tap?before={}", args.before),
    };
    let path = format!("{}/{what}&limit={}", client::logstore(&args.logstore), args.limit);
    let mut events = client.open(Method::GET, &path, None, |request| request).await?;
    let mut out = io::stdout();
    let mut escape = out.is_terminal().then(Escape::default);
    let mut seen = 0;
    while let Some(chunk) = events.chunk().await.map_err(|error| client.no_answer(&error))? {
        seen += chunk.iter().filter(|byte| **byte == b'\n').count() as u64;
        let written = match &mut escape {
            None => out.write_all(&chunk),
            Some(escape) => out.write_all(&escape.escape(&chunk)),
        };
        match written.and_then(|()| out.flush()) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
            written => written?,
        }
    }
    if seen < args.limit {
        complain!("the agent has ended the tap: the logstore does not run any more, or it was open for an hour");
    }
    Ok(())
}

/// Writes what controls a terminal as JSON's escapes, chunk by chunk.
#[derive(Default)]
struct Escape {
    /// The chunk before ended with the first byte of what may be a control character.
    has_begun: bool,
}

/// The first byte of control characters that have two, and what the second may be.
const BEGINNING: u8 = 0xc2;
const SECOND: std::ops::RangeInclusive<u8> = 0x80..=0x9f;

impl Escape {
    fn escape(&mut self, chunk: &[u8]) -> Vec<u8> {
        let mut escaped = Vec::with_capacity(chunk.len());
        for &byte in chunk {
            let has_begun = std::mem::take(&mut self.has_begun);
            let is_second = has_begun && SECOND.contains(&byte);
            let is_control = matches!(byte, 0..0x20 | 0x7f) && byte != b'\n' || is_second;
            if has_begun && !is_second {
                escaped.push(BEGINNING);
            }
            match byte {
                _ if is_control => escaped.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
                BEGINNING => self.has_begun = true,
                byte => escaped.push(byte),
            }
        }
        escaped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_gets_nothing_to_obey_wherever_chunks_end() {
        let text = "é§\u{9b}2J\x1b[0m\x7f\u{a0}\n".as_bytes();
        let expected = "é§\\u009b2J\\u001b[0m\\u007f\u{a0}\n".as_bytes();
        for at in 0..text.len() {
            let mut escape = Escape::default();
            let both = [escape.escape(&text[..at]), escape.escape(&text[at..])].concat();
            assert_eq!(both, expected, "{at}");
        }
    }
}
