//! `weir plugin check`: what an agent would say to an upload, without one.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};
use bytes::Bytes;

use super::push::{line, not_passed, read_settings};
use super::sign::signature_beside;
use crate::admin::Problem;
use crate::admin::upload::{find, settings_text};
use crate::agent::joined;
use crate::agent::plugins::{self, Plugins, given_to, sandbox_for_tools};
use crate::author::input::Input;
use crate::budget::Budget;
use crate::cli::config_file::ConfigFile;
use crate::cli::screen::{Look, has_colours, on_one_line, print};
use crate::cli::{Usage, user_cache};
use crate::config::{Config, Logstore, LogstoreName};
use crate::event::Batch;
use crate::registry::hex_digest;
use crate::sandbox::check::{Check, During, Failed};
use crate::sandbox::dry_run::{self, Report, dry_run};
use crate::sandbox::limits::COMPONENT_BYTES;
use crate::sandbox::{Chain, Files, Given, Limits, Log, OnFault, Plugin, Stage};
use crate::signing::Signature;

/// Say what an agent would say to a plugin, without one
///
/// The same checks as an upload's, in their order: its size, its signature (FILE.wasm.sig), its plugin API, its imports, its limits, that it compiles and
/// that it takes its settings; and with --lines, what it makes of them. With PROJECT/LOGSTORE, in the place and under the
/// limits that the configuration gives it there. Exits with 70 if a check fails.
#[derive(clap::Args)]
pub struct Args {
    /// The plugin
    #[arg(value_name = "FILE.wasm")]
    file: PathBuf,
    /// The logstore of the configuration that it is for
    #[arg(value_name = "PROJECT/LOGSTORE")]
    logstore: Option<LogstoreName>,
    #[command(flatten)]
    config: ConfigFile,
    /// Its settings: a file with JSON in it, or JSON [default: those of the plugin whose place it takes, or {}]
    #[arg(long, value_name = "FILE|JSON")]
    settings: Option<String>,
    /// A directory whose files it may read, without a logstore that says so
    #[arg(long, value_name = "DIR", conflicts_with = "logstore")]
    files: Option<PathBuf>,
    /// Lines to try it on; of a large file the last ones
    #[arg(long, value_name = "FILE")]
    lines: Option<PathBuf>,
}

pub fn run(args: &Args) -> Result<()> {
    crate::cli::log::start("error");
    let settings = args.settings.as_deref().map(read_settings).transpose()?;
    let place = Place::find(args)?;
    let lines = args.lines.as_deref().map(last_lines).transpose()?;
    let colours = has_colours();
    let (failed, report) = match check(args, &place, settings, lines) {
        Ok(report) => match report.as_ref().and_then(Report::objection) {
            None => return print(&passed(&place, report.as_ref(), colours)),
            Some(objection) => (Failed { check: Check::DryRun, error: anyhow!(objection) }, report.map(Box::new)),
        },
        Err(Failure::Check(failed)) => (failed, None),
        Err(Failure::Other(error)) => return Err(error),
    };
    let error = failed.to_string();
    let problem = Problem { error: error.clone(), check: Some(failed.check), hint: None, report };
    print(&not_passed(&problem, colours))?;
    bail!("{}: {}", failed.check, on_one_line(&error))
}

/// Where it is to run.
enum Place {
    /// By itself, with the limits that plugins have if nothing else is configured.
    Alone,
    /// In the chain of a logstore.
    In(Box<(Config, Logstore)>),
}

impl Place {
    fn find(args: &Args) -> Result<Place> {
        let Some(name) = &args.logstore else {
            if args.config.is_given() {
                return Err(Usage("a configuration is given: say for which PROJECT/LOGSTORE of it".to_owned()).into());
            }
            return Ok(Place::Alone);
        };
        let config = args.config.load()?.config;
        let (logstore, _) =
            find(&config, name).ok_or_else(|| Usage(format!("{} has no logstore {name}", args.config.name())))?;
        let logstore = logstore.clone();
        Ok(Place::In(Box::new((config, logstore))))
    }
}

enum Failure {
    Check(Failed),
    Other(anyhow::Error),
}

impl From<Failed> for Failure {
    fn from(failed: Failed) -> Self {
        Failure::Check(failed)
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Failure::Other(error)
    }
}

/// Gives what came of a dry run, if there was one.
fn check(
    args: &Args,
    place: &Place,
    settings: Option<String>,
    lines: Option<Batch>,
) -> Result<Option<Report>, Failure> {
    let sandbox = sandbox_for_tools(&user_cache())?;
    let name = args.file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let Place::In(place) = place else {
        let given = Given { limits: Limits::default(), files: args.files.is_some() };
        let plugin = sandbox.load_bytes(read(&args.file, COMPONENT_BYTES)?, &name, COMPONENT_BYTES, &given)?;
        let settings = settings_for(settings, "{}")?;
        let files = args.files.as_deref().map(Files::new);
        let stage = Stage::with(plugin, &settings, given.limits, &Budget::new(None), files, Log::of_author())
            .during(Check::Configure)?;
        return Ok(lines.map(|lines| dry_run(Chain::new(vec![stage], OnFault::Raw), None, &[lines])));
    };
    let (config, logstore) = &**place;
    let (project, slot) = (&config.projects[&logstore.name.project], logstore.upload_slot());
    let slot = slot.map_err(|why| anyhow!("nothing can be uploaded for this logstore: {why}"))?;
    let most = project.uploads.max_size;
    let bytes = read(&args.file, most)?;
    let signature = signature(&args.file)?;
    project.plugin_keys.keys.check(&hex_digest(&bytes), signature.as_deref()).during(Check::Signature)?;
    let plugin = sandbox.load_bytes(bytes, &logstore.name.logstore, most, &given_to(logstore, slot))?;
    let replaced = logstore.plugins.get(slot).map_or("{}", |used| &used.settings);
    let settings = settings_for(settings, replaced)?;
    let mut plugins = Plugins::new(sandbox, &config.plugin_dirs);
    let budget = Budget::new(project.memory.map(|bytes| bytes as usize));
    let new = chain(&mut plugins, logstore, Some((plugin, &settings)), &budget).during(Check::Configure)?;
    let Some(lines) = lines else { return Ok(None) };
    // What is configured may be in no state to be tried.
    let running = chain(&mut plugins, logstore, None, &budget).ok();
    Ok(Some(dry_run(new, running, &[lines])))
}

fn settings_for(given: Option<String>, otherwise: &str) -> Result<String, Failure> {
    let text = given.as_deref().unwrap_or(otherwise);
    let settings = serde_json::from_str(text).context("the settings are no JSON").during(Check::Configure)?;
    Ok(settings_text(&settings)?)
}

/// The logstore's chain, with the plugin in its place, or as it is.
fn chain(
    plugins: &mut Plugins,
    logstore: &Logstore,
    candidate: Option<(Arc<Plugin>, &str)>,
    budget: &Arc<Budget>,
) -> Result<Chain> {
    let used = match candidate {
        Some((plugin, settings)) => plugins.resolve_candidate(logstore, plugin, settings),
        None => plugins.resolve(logstore),
    };
    let chain = used.and_then(|used| plugins::chain(&used, logstore.on_fault, budget));
    chain.map_err(joined)
}

/// A plugin, as long as its size is not checked by what there is of it.
fn read(path: &Path, most: u64) -> Result<Bytes, Failure> {
    let describe = || format!("reading the plugin {}", path.display());
    let file = File::open(path).with_context(describe)?;
    let size = file.metadata().with_context(describe)?.len();
    let most = most.min(COMPONENT_BYTES);
    if size > most {
        return Err(anyhow!("it has {size} bytes, and the most allowed is {most}")).during(Check::Size)?;
    }
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes).with_context(describe)?;
    Ok(bytes.into())
}

/// The signature that lies beside a plugin, in base64; none if there is none.
fn signature(plugin: &Path) -> Result<Option<String>> {
    let path = signature_beside(plugin);
    if !path.exists() {
        return Ok(None);
    }
    Ok(Some(Signature::read(&path)?.to_string()))
}

/// The last lines of a file, as many as an agent tries a plugin on.
fn last_lines(path: &Path) -> Result<Batch> {
    let describe = || format!("reading the lines {}", path.display());
    let mut file = File::open(path).with_context(describe)?;
    let start = fs::metadata(path).with_context(describe)?.len().saturating_sub(dry_run::BYTES as u64);
    file.seek(SeekFrom::Start(start)).with_context(describe)?;
    let mut bytes = Vec::new();
    file.take(dry_run::BYTES as u64).read_to_end(&mut bytes).with_context(describe)?;
    // The first one may lack its beginning.
    let cut = if start == 0 { 0 } else { bytes.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1) };
    let input = Input::lines(&bytes[cut..]);
    Ok(input.batch(0..input.len()))
}

fn passed(place: &Place, report: Option<&Report>, colours: bool) -> String {
    let word = |check| match (check, report) {
        (Check::Signature, _) if matches!(place, Place::Alone) => ("not asked for", Look::Plain),
        (Check::DryRun, None) => ("not tried: give it --lines", Look::Warning),
        _ => ("passed", Look::Good),
    };
    let mut text: String =
        Check::ALL.into_iter().map(|check| line(check, word(check).0, word(check).1, colours)).collect();
    if let Some(report) = report {
        text += &format!("\n{}", crate::cli::screen::harmless(&report.to_string()));
    }
    text
}
