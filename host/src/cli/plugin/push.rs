//! `weir plugin push`: a plugin for a logstore of a running agent, or into a registry.

use std::convert::Infallible;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http_body_util::StreamBody;
use hyper::body::Frame;
use reqwest::multipart::{Form, Part};

use super::progress::Progress;
use super::registry::{self, Registry};
use super::sign::signature_beside;
use super::versions::{later, percent, runs};
use crate::admin::Problem;
use crate::admin::upload::Pushed;
use crate::cli::Usage;
use crate::cli::client::{self, Client, Failure, Whom};
use crate::cli::screen::{Look, coloured, harmless, has_colours, on_one_line, print, print_json, short};
use crate::config::LogstoreName;
use crate::oci::{self, Reference};
use crate::sandbox::admission;
use crate::sandbox::check::Check;
use crate::sandbox::limits::COMPONENT_BYTES;
use crate::signing::{Signature, SigningKey};

/// Bytes that are sent at once.
const PIECE: usize = 64 << 10;

/// Bytes of a file with settings.
const SETTINGS: u64 = 1 << 20;

/// Upload a plugin to a running agent, for one of its logstores; or put it into a registry
///
/// To PROJECT/LOGSTORE: the agent checks its size, its signature, its plugin API, its imports, its limits, that it compiles and that it takes its settings, and
/// sends the logstore's last lines through it. Only then it runs, from one event to the next, and stays a version to go
/// back to. Exits with 70 if a check fails; nothing has changed then.
///
/// To oci://REGISTRY/REPOSITORY:TAG: it becomes an artifact there, as other tools for WebAssembly know it, and its
/// reference by digest is printed.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    whom: Whom,
    #[command(flatten)]
    registry: Registry,
    /// Whose plugin it becomes; or where in a registry it is put: oci://REGISTRY/REPOSITORY:TAG
    #[arg(value_name = "PROJECT/LOGSTORE|oci://…")]
    target: Target,
    /// The plugin; for a logstore also oci://REGISTRY/REPOSITORY[:TAG][@sha256:DIGEST]
    #[arg(value_name = "FILE.wasm|oci://…")]
    plugin: Plugin,
    /// Its signature, as `weir plugin sign` makes it [default: that by --sign-key, or FILE.wasm.sig, if there is one]
    #[arg(long, value_name = "FILE")]
    signature: Option<PathBuf>,
    /// The private key to sign the plugin with, and what it becomes there, as `cosign sign --key` does
    #[arg(long, value_name = "KEY", help_heading = registry::HEADING)]
    sign_key: Option<PathBuf>,
    /// PEM file of who signs the registry's certificate [default: those that this machine trusts]
    #[arg(long, value_name = "FILE", help_heading = registry::HEADING)]
    registry_ca: Option<PathBuf>,
    /// Its settings: a file with JSON in it, or JSON [default: those of the plugin whose place it takes]
    #[arg(long, value_name = "FILE|JSON")]
    settings: Option<String>,
    /// Stop before it would run: nothing changes
    #[arg(long, conflicts_with = "canary")]
    dry_run: bool,
    /// Run it on so many percent of the files first; it goes back by itself if it fails on more than what runs now
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    canary: Option<u8>,
    /// What the agent answers, or what was pushed, as JSON
    #[arg(long)]
    json: bool,
}

/// Where a plugin is pushed to.
#[derive(Clone, Debug)]
enum Target {
    Logstore(LogstoreName),
    Registry(Reference),
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.starts_with(oci::SCHEME) {
            true => text.parse().map(Target::Registry).map_err(|error: oci::BadReference| error.to_string()),
            false => {
                text.parse().map(Target::Logstore).map_err(|error: crate::config::BadLogstoreName| error.to_string())
            }
        }
    }
}

/// Where a plugin comes from.
#[derive(Clone, Debug)]
enum Plugin {
    File(PathBuf),
    Registry(Reference),
}

impl FromStr for Plugin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.starts_with(oci::SCHEME) {
            true => text.parse().map(Plugin::Registry).map_err(|error: oci::BadReference| error.to_string()),
            false => Ok(Plugin::File(text.into())),
        }
    }
}

pub fn run(args: &Args) -> Result<()> {
    match (&args.target, &args.plugin) {
        (Target::Logstore(logstore), plugin) => upload(args, logstore, plugin),
        (Target::Registry(reference), Plugin::File(file)) => publish(args, reference, file),
        (Target::Registry(_), Plugin::Registry(from)) => {
            Err(Usage(format!("from one registry to another it goes through a file: weir plugin pull {from}")).into())
        }
    }
}

/// Puts a plugin into a registry.
fn publish(args: &Args, reference: &Reference, file: &Path) -> Result<()> {
    if args.settings.is_some() || args.dry_run || args.canary.is_some() {
        return Err(
            Usage("--settings, --dry-run and --canary are for a running agent, not for a registry".to_owned()).into()
        );
    }
    if reference.tag.is_none() || reference.digest.is_some() {
        return Err(
            Usage(format!("give a tag to push to: oci://{}/{}:1.0", reference.host, reference.repository)).into()
        );
    }
    let key = args.sign_key.as_deref().map(SigningKey::read).transpose()?;
    let plugin = admission::admit(read_plugin(file)?, reference.name());
    let plugin = plugin.with_context(|| format!("no agent would take {}", file.display()))?;
    let signature = match &key {
        Some(key) if args.signature.is_none() => Some(key.sign(&plugin.bytes)?),
        _ => signature_of(args, file)?,
    };
    let ca = args.registry_ca.as_deref().or(args.whom.ca());
    let access = args.registry.access(reference, ca)?;
    let pushed = registry::push(reference, access, &plugin, signature.as_ref(), key.as_ref())?;
    match args.json {
        true => print_json(&serde_json::json!({
            "reference": pushed.to_string(),
            "digest": pushed.digest,
            "plugin": format!("sha256:{}", plugin.digest),
            "size": plugin.bytes.len(),
            "signed": key.is_some(),
        })),
        false => print(&format!("{pushed}\n")),
    }
}

/// Uploads a plugin to an agent.
fn upload(args: &Args, logstore: &LogstoreName, plugin: &Plugin) -> Result<()> {
    if args.sign_key.is_some() {
        return Err(Usage("--sign-key is for a registry: sign with `weir plugin sign`".to_owned()).into());
    }
    let settings = args.settings.as_deref().map(read_settings).transpose()?;
    let client = args.whom.client()?;
    let (plugin, signature) = match plugin {
        Plugin::File(file) => (read_plugin(file)?, signature_of(args, file)?),
        Plugin::Registry(reference) => {
            let access = args.registry.access(reference, args.registry_ca.as_deref())?;
            let pulled = registry::pull(reference, access, None)?;
            let given = args.signature.as_deref().map(Signature::read).transpose()?;
            (pulled.bytes, given.or(pulled.signature))
        }
    };
    let answer = send(&client, args, logstore, Sent { plugin, settings, signature });
    let colours = has_colours();
    match &answer {
        Ok(pushed) if args.json => print_json(pushed)?,
        Ok(pushed) => print(&passed(logstore, pushed, colours))?,
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

pub(super) fn read_plugin(path: &Path) -> Result<Bytes> {
    let name = path.display();
    let describe = || format!("reading the plugin {name}");
    let mut bytes = Vec::new();
    let file = File::open(path).with_context(describe)?;
    file.take(COMPONENT_BYTES + 1).read_to_end(&mut bytes).with_context(describe)?;
    ensure!(bytes.len() as u64 <= COMPONENT_BYTES, "{name} has more than {COMPONENT_BYTES} bytes: no agent takes it");
    Ok(bytes.into())
}

/// The signature that goes with a file.
fn signature_of(args: &Args, file: &Path) -> Result<Option<Signature>> {
    if let Some(path) = &args.signature {
        return Signature::read(path).map(Some);
    }
    let beside = signature_beside(file);
    beside.exists().then(|| Signature::read(&beside)).transpose()
}

/// From a file, or as they stand there.
pub(super) fn read_settings(given: &str) -> Result<String> {
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

/// What is sent to an agent.
struct Sent {
    plugin: Bytes,
    settings: Option<String>,
    signature: Option<Signature>,
}

fn send(client: &Client, args: &Args, logstore: &LogstoreName, sent: Sent) -> Result<Pushed> {
    let Sent { plugin, settings, signature } = sent;
    let mut path = format!("{}/plugins", client::logstore(logstore));
    match (args.dry_run, args.canary) {
        (true, _) => path += "?dry_run=true",
        (false, Some(percent)) => path += &format!("?canary={percent}"),
        (false, None) => {}
    }
    let progress = Progress::new("sending", "sent; the agent checks it …");
    let size = plugin.len() as u64;
    let body = reqwest::Body::wrap(StreamBody::new(pieces(plugin, progress.clone())));
    let mut form = Form::new();
    if let Some(settings) = settings {
        form = form.text("settings", settings);
    }
    if let Some(signature) = signature {
        form = form.text("signature", signature.to_string());
    }
    let part = Part::stream_with_length(body, size).file_name("plugin.wasm").mime_str("application/wasm")?;
    let answer = client.post(&path, |request| request.multipart(form.part("plugin", part)));
    progress.end();
    answer
}

/// The plugin, piece by piece; it is said how far it is.
fn pieces(
    plugin: Bytes,
    progress: Progress,
) -> impl stream::Stream<Item = Result<Frame<Bytes>, Infallible>> + Send + Sync {
    let starts = (0..plugin.len()).step_by(PIECE);
    let pieces: Vec<_> = starts.map(|start| plugin.slice(start..plugin.len().min(start + PIECE))).collect();
    let (all, mut sent) = (plugin.len() as u64, 0);
    stream::iter(pieces).map(move |piece| {
        sent += piece.len() as u64;
        progress.tell(sent, all);
        Ok(Frame::data(piece))
    })
}

/// A line a check.
pub(super) fn line(check: Check, word: &str, look: Look, colours: bool) -> String {
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
            format!("{}\n{}\n{}", on_one_line(&what), runs(name, &pushed.choice), later(pushed.pending))
        }
    };
    text
}

/// The checks up to the one that failed, and what came of a dry run.
pub(super) fn not_passed(problem: &Problem, colours: bool) -> String {
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
