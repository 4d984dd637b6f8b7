//! `weir plugin push`: a plugin for a logstore of a running agent.

use std::convert::Infallible;
use std::fs::{self, File};
use std::io::{self, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http_body_util::StreamBody;
use hyper::body::Frame;
use reqwest::multipart::{Form, Part};

use super::versions::{percent, runs};
use crate::admin::Problem;
use crate::admin::upload::Pushed;
use crate::cli::Usage;
use crate::cli::client::{self, Client, Failure, Whom};
use crate::cli::screen::{Look, coloured, harmless, has_colours, on_one_line, print, print_json, short};
use crate::config::LogstoreName;
use crate::sandbox::check::Check;
use crate::sandbox::limits::COMPONENT_BYTES;

/// Bytes that are sent at once.
const PIECE: usize = 64 << 10;

/// Bytes of a file with settings.
const SETTINGS: u64 = 1 << 20;

/// Upload a plugin to a running agent, for one of its logstores
///
/// The agent checks its size, its plugin API, its imports, its limits, that it compiles and that it takes its settings, and
/// sends the logstore's last lines through it. Only then it runs, from one event to the next, and stays a version to go
/// back to. Exits with 70 if a check fails; nothing has changed then.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    whom: Whom,
    /// Whose plugin it becomes
    #[arg(value_name = "PROJECT/LOGSTORE")]
    logstore: LogstoreName,
    /// The plugin
    #[arg(value_name = "FILE.wasm")]
    file: PathBuf,
    /// Its settings: a file with JSON in it, or JSON [default: those of the plugin whose place it takes]
    #[arg(long, value_name = "FILE|JSON")]
    settings: Option<String>,
    /// Stop before it would run: nothing changes
    #[arg(long, conflicts_with = "canary")]
    dry_run: bool,
    /// Run it on so many percent of the files first; it goes back by itself if it fails on more than what runs now
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    canary: Option<u8>,
    /// What the agent answers, as JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<()> {
    let plugin = read_plugin(&args.file)?;
    let settings = args.settings.as_deref().map(read_settings).transpose()?;
    let client = args.whom.client()?;
    let answer = send(&client, args, plugin, settings);
    let colours = has_colours();
    match &answer {
        Ok(pushed) if args.json => print_json(pushed)?,
        Ok(pushed) => print(&passed(&args.logstore, pushed, colours))?,
        Err(error) => {
            if let Some(Failure::Refused(refused)) = error.downcast_ref() {
                match args.json {
                    true => print_json(&refused.problem)?,
                    false => print(&not_passed(&refused.problem, colours))?,
                }
            }
        }
    }
    let pushed = answer.map_err(name_check)?;
    match pushed.objection {
        Some(objection) => bail!("it would not run: {}", on_one_line(&objection)),
        None => Ok(()),
    }
}

fn read_plugin(path: &Path) -> Result<Bytes> {
    let name = path.display();
    let describe = || format!("reading the plugin {name}");
    let mut bytes = Vec::new();
    let file = File::open(path).with_context(describe)?;
    file.take(COMPONENT_BYTES + 1).read_to_end(&mut bytes).with_context(describe)?;
    ensure!(bytes.len() as u64 <= COMPONENT_BYTES, "{name} has more than {COMPONENT_BYTES} bytes: no agent takes it");
    Ok(bytes.into())
}

/// From a file, or as they stand there.
fn read_settings(given: &str) -> Result<String> {
    let (text, source) = match given.trim_start().starts_with('{') {
        true => (given.to_owned(), "--settings".to_owned()),
        false => {
            let path = given.strip_prefix('@').unwrap_or(given);
            let describe = || format!("reading the settings {path}");
            let size = fs::metadata(path).with_context(describe)?.len();
            ensure!(size <= SETTINGS, "the settings {path} have more than {SETTINGS} bytes");
            (fs::read_to_string(path).with_context(describe)?, path.to_owned())
        }
    };
    let parsed = serde_json::from_str::<serde_json::Value>(&text);
    parsed.map_err(|error| Usage(format!("the settings of {source} are no JSON: {error}")))?;
    Ok(text)
}

fn send(client: &Client, args: &Args, plugin: Bytes, settings: Option<String>) -> Result<Pushed> {
    let mut path = format!("{}/plugins", client::logstore(&args.logstore));
    match (args.dry_run, args.canary) {
        (true, _) => path += "?dry_run=true",
        (false, Some(percent)) => path += &format!("?canary={percent}"),
        (false, None) => {}
    }
    let progress = Progress::new(plugin.len());
    let shown = progress.is_shown;
    let size = plugin.len() as u64;
    let body = reqwest::Body::wrap(StreamBody::new(pieces(plugin, progress)));
    let mut form = Form::new();
    if let Some(settings) = settings {
        form = form.text("settings", settings);
    }
    let part = Part::stream_with_length(body, size).file_name("plugin.wasm").mime_str("application/wasm")?;
    let answer = client.post(&path, |request| request.multipart(form.part("plugin", part)));
    if shown {
        eprint!("\r\x1b[K");
    }
    answer
}

/// The plugin, piece by piece; it is said how far it is.
fn pieces(
    plugin: Bytes,
    mut progress: Progress,
) -> impl stream::Stream<Item = Result<Frame<Bytes>, Infallible>> + Send + Sync {
    let starts = (0..plugin.len()).step_by(PIECE);
    let pieces: Vec<_> = starts.map(|start| plugin.slice(start..plugin.len().min(start + PIECE))).collect();
    stream::iter(pieces).map(move |piece| {
        progress.add(piece.len());
        Ok(Frame::data(piece))
    })
}

/// What is said on a terminal while a plugin is sent, and checked.
struct Progress {
    is_shown: bool,
    sent: usize,
    all: usize,
}

impl Progress {
    fn new(all: usize) -> Self {
        Progress { is_shown: io::stderr().is_terminal(), sent: 0, all }
    }

    fn add(&mut self, bytes: usize) {
        self.sent += bytes;
        if self.is_shown {
            match self.sent == self.all {
                true => eprint!("\r\x1b[Ksent; the agent checks it …"),
                false => eprint!("\r\x1b[Ksending: {}%", self.sent * 100 / self.all),
            }
            let _ = io::stderr().flush();
        }
    }
}

/// A line a check.
fn line(check: Check, word: &str, look: Look, colours: bool) -> String {
    format!("{:<12}{}\n", check.to_string(), coloured(word, look, colours))
}

fn passed(name: &LogstoreName, pushed: &Pushed, colours: bool) -> String {
    let mut text = String::new();
    for check in Check::ALL {
        let is_objected = check == Check::DryRun && pushed.objection.is_some();
        let (word, look) = if is_objected { ("failed", Look::Bad) } else { ("passed", Look::Good) };
        text += &line(check, word, look, colours);
    }
    text += &format!("\n{}\n", harmless(&pushed.table));
    text += &match &pushed.version {
        None => "nothing has changed\n".to_owned(),
        Some(version) => {
            let own = format!("{} {}", version.name, version.plugin_version);
            let what = format!("version {} is {}, sha256:{}", version.number, own.trim_end(), short(&version.digest));
            format!("{}\n{}\n", on_one_line(&what), runs(name, &pushed.choice))
        }
    };
    text
}

/// The checks up to the one that failed, and what came of a dry run.
fn not_passed(problem: &Problem, colours: bool) -> String {
    let Some(failed) = problem.check else { return String::new() };
    let before = Check::ALL.into_iter().take_while(|check| *check < failed);
    let mut text: String = before.map(|check| line(check, "passed", Look::Good, colours)).collect();
    text += &line(failed, "failed", Look::Bad, colours);
    if let Some(report) = &problem.report {
        text += &format!("\n{}\n", harmless(&report.to_string()));
    }
    text
}

/// The error, with the check that failed.
fn name_check(error: anyhow::Error) -> anyhow::Error {
    let check = match error.downcast_ref() {
        Some(Failure::Refused(refused)) => refused.problem.check,
        _ => None,
    };
    match check {
        Some(check) => error.context(format!("{check}")),
        None => error,
    }
}
