//! From an uploaded `.wasm` to a version that runs: checks in their order, a dry run, and only then a change.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, anyhow};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::config::{Config, Logstore, LogstoreName, NotReplaceable, Project};
use crate::control::{Candidate, Control};
use crate::registry::{By, Canary, Choice, New, Refused, SETTINGS, Version, hex_digest};
use crate::sandbox::check::{Check, During, Failed};
use crate::sandbox::dry_run::{self, Report, dry_run};
use crate::signing::SIGNATURE;

/// What is uploaded.
pub struct Push {
    /// The `.wasm`.
    pub bytes: Bytes,
    /// The settings, as they came; none: those of the plugin whose place it takes.
    pub settings: Option<Vec<u8>>,
    /// Base64 of its signature, as it came, if it has one.
    pub signature: Option<Vec<u8>>,
    /// Who does.
    pub by: By,
    /// What is to become of it.
    pub then: Then,
}

/// What becomes of an upload that has passed all checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// Nothing.
    Nothing,
    /// It runs.
    Activate,
    /// It runs on so many percent of the files first.
    Canary(u8),
}

/// What has become of an upload.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Pushed {
    /// The version that it is now; none if nothing was to become of it.
    pub version: Option<Version>,
    /// What the logstore runs now.
    pub choice: Choice,
    /// Whether it has yet to come to it: it has no turn, or waits for something, and does so when it can.
    #[serde(default)]
    pub pending: bool,
    /// What it made of the logstore's last lines.
    pub report: Report,
    /// Why it would not have been activated.
    pub objection: Option<String>,
    /// The report as a table.
    pub table: String,
}

/// What was chosen of the versions that there are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Chosen {
    /// What the logstore runs.
    #[serde(flatten)]
    pub choice: Choice,
    /// Whether it has yet to come to it: it has no turn, or waits for something, and does so when it can.
    #[serde(default)]
    pub pending: bool,
}

/// Why an upload, or another change, was refused.
#[derive(Debug)]
pub enum NotDone {
    /// The project's uploads are turned off.
    NotAllowed,
    /// No place in the chain is for uploads.
    NoPlace(NotReplaceable),
    /// A check failed; of a dry run with what came of it.
    Check(Failed, Option<Box<Report>>),
    /// The registry does not have it, or not any more.
    Refused(Refused),
    /// It could not be put to work; all is as it was.
    NotApplied(anyhow::Error),
    /// Something is wrong with the agent.
    Broken(anyhow::Error),
}

impl fmt::Display for NotDone {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            NotDone::NotAllowed => f.write_str("the project's uploads are turned off in the agent's configuration"),
            NotDone::NoPlace(why) => write!(f, "nothing can be uploaded for this logstore: {why}"),
            NotDone::Check(failed, _) => failed.fmt(f),
            NotDone::Refused(refused) => refused.fmt(f),
            NotDone::NotApplied(error) => write!(f, "it could not be put to work, and all is as it was: {error:#}"),
            NotDone::Broken(error) => write!(f, "{error:#}"),
        }
    }
}

impl From<Refused> for NotDone {
    fn from(refused: Refused) -> Self {
        NotDone::Refused(refused)
    }
}

impl From<Failed> for NotDone {
    fn from(failed: Failed) -> Self {
        NotDone::Check(failed, None)
    }
}

/// Logstores whose plugins are being changed: one change of each at a time.
#[derive(Default)]
pub struct Changes(Mutex<BTreeSet<LogstoreName>>);

/// A change that is under way.
pub struct Change<'a> {
    changes: &'a Changes,
    name: LogstoreName,
}

impl Changes {
    /// Begins one; none if another is under way.
    pub fn begin(&self, name: &LogstoreName) -> Option<Change<'_>> {
        let is_free = self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone());
        is_free.then(|| Change { changes: self, name: name.clone() })
    }
}

impl Drop for Change<'_> {
    fn drop(&mut self) {
        self.changes.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.name);
    }
}

/// A logstore and its project.
pub fn find<'a>(config: &'a Config, name: &LogstoreName) -> Option<(&'a Logstore, &'a Project)> {
    let logstore = config.logstores.iter().find(|logstore| logstore.name == *name)?;
    Some((logstore, config.projects.get(&name.project)?))
}

/// Checks an upload, tries it, and does with it what is to become of it.
pub fn push(control: &dyn Control, name: &LogstoreName, push: Push) -> Result<Pushed, NotDone> {
    let config = control.config();
    let (logstore, project) = find(&config, name).context("the logstore is gone").map_err(NotDone::Broken)?;
    let slot = place(logstore, project)?;
    let signature = push.signature.as_deref().map(signature_text).transpose()?;
    project.plugin_keys.keys.check(&hex_digest(&push.bytes), signature).during(Check::Signature)?;
    let (bytes, most) = (push.bytes.clone(), project.uploads.max_size);
    let plugin = control.sandbox().load_bytes(bytes, &name.logstore, most, &control.given(name))?;
    let settings = match push.settings {
        Some(settings) => settings_from(&settings)?,
        None => settings_of(control, logstore, slot)?,
    };
    let text = settings_text(&settings)?;
    if text.len() > SETTINGS {
        return Err(Refused::Settings(text.len()).into());
    }
    let candidate = Candidate { plugin, settings: text };
    let report = try_out(control, name, &candidate)?;
    let objection = report.objection();
    let table = report.to_string();
    if push.then == Then::Nothing {
        let choice = control.registry().choice(name)?;
        return Ok(Pushed { version: None, choice, pending: false, report, objection, table });
    }
    if let Some(objection) = objection {
        let failed = Failed { check: Check::DryRun, error: anyhow!(objection) };
        return Err(NotDone::Check(failed, Some(Box::new(report))));
    }
    let metadata = &candidate.plugin.metadata;
    let new = New {
        bytes: &push.bytes,
        name: &metadata.name,
        plugin_version: &metadata.version,
        settings: &settings,
        by: push.by,
        signature,
        most: project.uploads.max_versions,
    };
    let version = control.registry().add(name, &new)?;
    let canary = match push.then {
        Then::Canary(percent) => Some(percent),
        _ => None,
    };
    let Chosen { choice, pending } = activate(control, name, version.number, canary)?;
    Ok(Pushed { version: Some(version), choice, pending, report, objection: None, table })
}

/// A signature is looked at as a text before it is looked at as one.
fn signature_text(signature: &[u8]) -> Result<&str, Failed> {
    let text = std::str::from_utf8(signature).ok().filter(|text| text.len() <= SIGNATURE);
    text.map(str::trim).context("the signature is none: base64 is expected").during(Check::Signature)
}

/// Settings that were uploaded.
fn settings_from(settings: &[u8]) -> Result<Value, Failed> {
    if settings.len() > SETTINGS {
        return Err(anyhow!("the settings have more than {SETTINGS} bytes")).during(Check::Configure);
    }
    let value = serde_json::from_slice(settings);
    value.map_err(|error| anyhow!("the settings are no JSON: {error}")).during(Check::Configure)
}

/// Settings as a plugin is given them.
pub fn settings_text(settings: &Value) -> Result<String, Failed> {
    match settings.is_object() {
        true => Ok(settings.to_string()),
        false => Err(anyhow!("the settings must be a JSON object")).during(Check::Configure),
    }
}

/// Sends the logstore's last lines through the candidate, and through what runs now.
pub fn try_out(control: &dyn Control, name: &LogstoreName, candidate: &Candidate) -> Result<Report, Failed> {
    let new = control.chain(name, Some(candidate)).during(Check::Configure)?;
    // What runs now may be in no state to be tried.
    let running = control.chain(name, None).ok();
    let batches = control.recent(name, dry_run::BYTES).during(Check::DryRun)?;
    Ok(dry_run(new, running, &batches))
}

/// Makes a version run, on all files or so many percent of them; 0 is what the configuration says.
pub fn activate(
    control: &dyn Control,
    name: &LogstoreName,
    number: u64,
    canary: Option<u8>,
) -> Result<Chosen, NotDone> {
    if number != 0 {
        let config = control.config();
        let (logstore, project) = find(&config, name).context("the logstore is gone").map_err(NotDone::Broken)?;
        place(logstore, project)?;
    }
    let registry = control.registry();
    change(control, name, || match canary {
        None => registry.activate(name, number),
        Some(percent) => registry.begin_canary(name, Canary { version: number, percent }),
    })
}

/// Ends a canary, or makes what ran before run again.
pub fn rollback(control: &dyn Control, name: &LogstoreName) -> Result<Chosen, NotDone> {
    change(control, name, || control.registry().rollback(name))
}

/// What is written down first is what runs after a kill; if it cannot run now, it is put back.
fn change(
    control: &dyn Control,
    name: &LogstoreName,
    choose: impl FnOnce() -> Result<Choice, Refused>,
) -> Result<Chosen, NotDone> {
    let registry = control.registry();
    let before = registry.choice(name)?;
    let choice = choose()?;
    match control.apply(name) {
        Ok(is_done) => Ok(Chosen { choice, pending: !is_done }),
        Err(error) => {
            registry.restore(name, &before)?;
            Err(NotDone::NotApplied(error))
        }
    }
}

/// Why nothing can be uploaded for a logstore, if nothing can.
pub fn refusal(config: &Config, name: &LogstoreName) -> Option<String> {
    let (logstore, project) = find(config, name)?;
    place(logstore, project).err().map(|refusal| refusal.to_string())
}

fn place(logstore: &Logstore, project: &Project) -> Result<usize, NotDone> {
    if !project.uploads.allow {
        return Err(NotDone::NotAllowed);
    }
    logstore.upload_slot().map_err(NotDone::NoPlace)
}

/// The settings of the plugin that is in the place of uploads now.
fn settings_of(control: &dyn Control, logstore: &Logstore, slot: usize) -> Result<Value, NotDone> {
    let active = control.registry().choice(&logstore.name)?.active;
    if active != 0 {
        return Ok(control.registry().version(&logstore.name, active)?.settings);
    }
    let configured = logstore.plugins.get(slot).map_or("{}", |used| &used.settings);
    serde_json::from_str(configured).map_err(|error| NotDone::Broken(error.into()))
}
