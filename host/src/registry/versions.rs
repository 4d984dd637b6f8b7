//! The versions of uploaded plugins, per logstore, and which of them runs.
//!
//! ```text
//! data_dir/registry/blobs/<sha256>.wasm                     verified when they are read
//! data_dir/registry/logstores/<project>+<logstore>.json     a Record
//! ```
//!
//! A change is one record written anew: to a file of another name, synced, renamed, and the directory synced. So after a
//! kill or a power failure at any instant a logstore has the record from before or after, and every blob that a record
//! names is there: blobs come before the records that name them, and go after those that don't any more. Blobs that no
//! record names are removed when the registry is opened.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use super::disk::{Disk, Private, Room, UNFINISHED};
use crate::config::LogstoreName;
use crate::sandbox::limits::COMPONENT_BYTES;

/// Bytes of a record: 1000 versions with settings of some KiB.
const RECORD: u64 = 64 << 20;

/// Bytes of the settings of a version.
pub const SETTINGS: usize = 64 << 10;

/// Uploaded plugins.
pub struct Registry {
    disk: Box<dyn Disk>,
    /// By logstore; or what is wrong with the record.
    records: Mutex<BTreeMap<LogstoreName, Result<Record, String>>>,
}

/// What is known of a logstore's plugins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    /// The number of the last version that was added, which may be gone.
    last: u64,
    #[serde(flatten)]
    choice: Choice,
    /// By number.
    versions: Vec<Version>,
}

/// Which version of its plugin a logstore runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Choice {
    /// The number of the version; 0 is what the configuration says.
    pub active: u64,
    /// What was active before, to go back to.
    pub before: Option<u64>,
    /// What is tried on a part of the files.
    pub canary: Option<Canary>,
}

/// A version that is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Canary {
    /// Its number.
    pub version: u64,
    /// The part of the files on which it runs, 1 to 99 percent.
    pub percent: u8,
}

/// A version of a logstore's plugin: a `.wasm` and its settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Version {
    /// Counts up from 1; never used for another.
    pub number: u64,
    /// SHA-256 of the `.wasm`, in hex.
    pub digest: String,
    /// Bytes of the `.wasm`.
    pub size: u64,
    /// What the plugin calls itself.
    pub name: String,
    /// The plugin's own version, as it says.
    pub plugin_version: String,
    /// A JSON object.
    #[schema(value_type = Object)]
    pub settings: serde_json::Value,
    /// When it was uploaded: RFC 3339.
    pub pushed_at: String,
    /// Who did.
    pub by: By,
    /// Who brought it has signed it so: base64 of an ECDSA signature of the `.wasm`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
    /// What became of it: why it was not activated, or is not any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Whose token an upload came with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// The operator's.
    Operator,
    /// The project's.
    Project,
}

/// What is to become a version.
pub struct New<'a> {
    /// The `.wasm`.
    pub bytes: &'a [u8],
    /// What the plugin calls itself.
    pub name: &'a str,
    /// Its own version.
    pub plugin_version: &'a str,
    /// A JSON object.
    pub settings: &'a serde_json::Value,
    /// Who brings it.
    pub by: By,
    /// Base64 of its signature.
    pub signature: Option<&'a str>,
    /// Versions that the logstore may have.
    pub most: usize,
}

/// Why the registry did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// There is no such version.
    #[error("there is no version {0}: see the list of versions")]
    Unknown(u64),
    /// It is in use.
    #[error("version {0} is in use: activate another one first")]
    InUse(u64),
    /// It is what a canary would be compared with.
    #[error("version {0} is active already: a canary tries another one")]
    Active(u64),
    /// There are too many.
    #[error("there are {0} versions already, which is as many as are kept: remove one first")]
    Full(usize),
    /// There is no version before.
    #[error("there is no version to go back to")]
    NothingBefore,
    /// Not a part.
    #[error("a canary runs on 1 to 99 percent of the files, not on {0}")]
    NotAPart(u8),
    /// The settings have too many bytes.
    #[error("the settings have {0} bytes, and {SETTINGS} are allowed")]
    Settings(usize),
    /// The disk failed, or what is on it is damaged.
    #[error("{0:#}")]
    Broken(#[from] anyhow::Error),
}

impl Registry {
    /// Opens the registry in that directory, which is made if need be. Removes what an earlier run has left unfinished.
    pub fn open(root: &Path) -> Result<Self> {
        Self::on(Box::new(Private::open(root)?)).with_context(|| format!("uploaded plugins in {}", root.display()))
    }

    pub(super) fn on(disk: Box<dyn Disk>) -> Result<Self> {
        let mut records = BTreeMap::new();
        for file in disk.list(Room::Logstores)? {
            if file.starts_with(UNFINISHED) {
                disk.remove(Room::Logstores, &file)?;
            } else if let Some(name) = name_of(&file) {
                let record = read(&*disk, &file).map_err(|error| format!("{error:#}"));
                if let Err(error) = &record {
                    tracing::error!(logstore = %name, "the record of its uploaded plugins cannot be used: {error}");
                }
                records.insert(name, record);
            }
        }
        let used: Option<BTreeSet<String>> = digests(&records);
        for file in disk.list(Room::Blobs)? {
            // What a damaged record names is not known.
            let is_used = used.as_ref().is_none_or(|used| used.contains(&file));
            if file.starts_with(UNFINISHED) || !is_used {
                disk.remove(Room::Blobs, &file)?;
            }
        }
        disk.sync(Room::Blobs)?;
        disk.sync(Room::Logstores)?;
        Ok(Registry { disk, records: Mutex::new(records) })
    }

    /// What a logstore runs.
    pub fn choice(&self, name: &LogstoreName) -> Result<Choice, Refused> {
        Ok(self.record(&self.lock(), name)?.choice)
    }

    /// The logstores that try a version.
    pub fn canaries(&self) -> Vec<LogstoreName> {
        let records = self.lock();
        let tries = |record: &Record| record.choice.canary.is_some();
        let trying = records.iter().filter(|(_, record)| record.as_ref().is_ok_and(tries));
        trying.map(|(name, _)| name.clone()).collect()
    }

    /// What it runs, and all its versions by number.
    pub fn list(&self, name: &LogstoreName) -> Result<(Choice, Vec<Version>), Refused> {
        let record = self.record(&self.lock(), name)?;
        Ok((record.choice, record.versions))
    }

    /// One of its versions.
    pub fn version(&self, name: &LogstoreName, number: u64) -> Result<Version, Refused> {
        self.record(&self.lock(), name)?.find(number).cloned()
    }

    /// The bytes of the `.wasm` of that digest, verified.
    pub fn blob(&self, digest: &str) -> Result<Vec<u8>> {
        let bytes = self.disk.read(Room::Blobs, &blob_name(digest), COMPONENT_BYTES);
        let bytes = bytes.with_context(|| format!("reading the uploaded plugin {digest}"))?;
        ensure!(hex_digest(&bytes) == digest, "the uploaded plugin {digest} is damaged on disk: upload it again");
        Ok(bytes)
    }

    /// Adds a version. It is not active by that. One of the same bytes and settings is there already: that one is given.
    pub fn add(&self, name: &LogstoreName, new: &New) -> Result<Version, Refused> {
        let settings = new.settings.to_string().len();
        if settings > SETTINGS {
            return Err(Refused::Settings(settings));
        }
        let digest = hex_digest(new.bytes);
        // It takes a while, in which others may go on.
        let unfinished = self.disk.write(Room::Blobs, new.bytes).context("writing the uploaded plugin")?;
        let mut records = self.lock();
        let added = self.add_written(&mut records, name, new, digest, &unfinished);
        if !matches!(&added, Ok((_, true))) {
            let _ = self.disk.remove(Room::Blobs, &unfinished);
        }
        Ok(added?.0)
    }

    /// The version, and whether the file was used for it.
    fn add_written(
        &self,
        records: &mut Records,
        name: &LogstoreName,
        new: &New,
        digest: String,
        unfinished: &str,
    ) -> Result<(Version, bool), Refused> {
        let mut record = self.record(records, name)?;
        let is_same = |version: &&Version| version.digest == digest && version.settings == *new.settings;
        let same = record.versions.iter().find(is_same).cloned();
        if same.is_none() && record.versions.len() >= new.most {
            return Err(Refused::Full(record.versions.len()));
        }
        let keep = || {
            self.disk.rename(Room::Blobs, unfinished, &blob_name(&digest))?;
            self.disk.sync(Room::Blobs)
        };
        // Also in place of one that may be damaged.
        keep().context("writing the uploaded plugin")?;
        if let Some(same) = same {
            return self.sign(records, name, record, same, new.signature).map(|signed| (signed, true));
        }
        record.last += 1;
        let version = Version {
            number: record.last,
            digest: digest.clone(),
            size: new.bytes.len() as u64,
            name: new.name.to_owned(),
            plugin_version: new.plugin_version.to_owned(),
            settings: new.settings.clone(),
            pushed_at: now(),
            by: new.by,
            signature: new.signature.map(str::to_owned),
            note: None,
        };
        record.versions.push(version.clone());
        let written = self.write(records, name, record);
        self.remove_unused(records, &digest);
        written?;
        Ok((version, true))
    }

    /// The version with the signature that it came with this time, if it came with one.
    fn sign(
        &self,
        records: &mut Records,
        name: &LogstoreName,
        mut record: Record,
        version: Version,
        signature: Option<&str>,
    ) -> Result<Version, Refused> {
        if signature.is_none() || version.signature.as_deref() == signature {
            return Ok(version);
        }
        let signed = record.find_mut(version.number)?;
        signed.signature = signature.map(str::to_owned);
        let signed = signed.clone();
        self.write(records, name, record)?;
        Ok(signed)
    }

    /// Makes a version the active one; 0 is what the configuration says. Ends a canary.
    pub fn activate(&self, name: &LogstoreName, number: u64) -> Result<Choice, Refused> {
        self.change(name, |record| {
            if number != 0 {
                record.find_mut(number)?.note = None;
            }
            record.activate(number);
            Ok(())
        })
    }

    /// Tries a version on a part of the files.
    pub fn begin_canary(&self, name: &LogstoreName, canary: Canary) -> Result<Choice, Refused> {
        self.change(name, |record| {
            if !(1..=99).contains(&canary.percent) {
                return Err(Refused::NotAPart(canary.percent));
            }
            if record.choice.active == canary.version {
                return Err(Refused::Active(canary.version));
            }
            record.find_mut(canary.version)?.note = None;
            record.choice.canary = Some(canary);
            Ok(())
        })
    }

    /// Ends a trial by what came of it: the version is active from now on, or goes, and the error says why. Whether that
    /// trial was still under way: nothing is changed if not.
    pub fn judge(&self, name: &LogstoreName, canary: Canary, verdict: Result<(), &str>) -> Result<bool, Refused> {
        let mut goes_on = false;
        self.change(name, |record| {
            goes_on = record.choice.canary == Some(canary);
            match verdict {
                _ if !goes_on => {}
                Ok(()) => {
                    record.find_mut(canary.version)?.note = None;
                    record.activate(canary.version);
                }
                Err(note) => _ = record.end_canary(note),
            }
            Ok(())
        })?;
        Ok(goes_on)
    }

    /// Ends a canary; or if there is none, activates what was active before.
    pub fn rollback(&self, name: &LogstoreName) -> Result<Choice, Refused> {
        self.change(name, |record| {
            if !record.end_canary("rolled back") {
                let before = record.choice.before.ok_or(Refused::NothingBefore)?;
                record.activate(before);
            }
            Ok(())
        })
    }

    /// Makes another version the active one, as the one that is cannot be used; `note` says why.
    pub fn fall_back(&self, name: &LogstoreName, number: u64, note: &str) -> Result<Choice, Refused> {
        self.change(name, |record| {
            let failed = record.choice.active;
            record.choice.canary = record.choice.canary.filter(|canary| canary.version != number);
            (record.choice.active, record.choice.before) = (number, None);
            record.find_mut(failed)?.note = Some(note.to_owned());
            Ok(())
        })
    }

    /// Writes down what became of a version.
    pub fn note(&self, name: &LogstoreName, number: u64, note: &str) -> Result<(), Refused> {
        self.change(name, |record| {
            record.find_mut(number)?.note = Some(note.to_owned());
            Ok(())
        })?;
        Ok(())
    }

    /// Puts back what was chosen before a change that could not be applied.
    pub fn restore(&self, name: &LogstoreName, choice: &Choice) -> Result<(), Refused> {
        self.change(name, |record| {
            record.choice = choice.clone();
            Ok(())
        })?;
        Ok(())
    }

    /// Removes a version that is not in use.
    pub fn remove(&self, name: &LogstoreName, number: u64) -> Result<(), Refused> {
        let mut records = self.lock();
        let mut record = self.record(&records, name)?;
        let digest = record.find(number)?.digest.clone();
        let Choice { active, canary, .. } = record.choice;
        if active == number || canary.is_some_and(|canary| canary.version == number) {
            return Err(Refused::InUse(number));
        }
        record.versions.retain(|version| version.number != number);
        record.choice.before = record.choice.before.filter(|before| *before != number);
        self.write(&mut records, name, record)?;
        self.remove_unused(&records, &digest);
        Ok(())
    }

    fn change(
        &self,
        name: &LogstoreName,
        change: impl FnOnce(&mut Record) -> Result<(), Refused>,
    ) -> Result<Choice, Refused> {
        let mut records = self.lock();
        let before = self.record(&records, name)?;
        let mut record = before.clone();
        change(&mut record)?;
        let choice = record.choice.clone();
        if record != before {
            self.write(&mut records, name, record)?;
        }
        Ok(choice)
    }

    fn lock(&self) -> MutexGuard<'_, Records> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record(&self, records: &Records, name: &LogstoreName) -> Result<Record, Refused> {
        match records.get(name) {
            None => Ok(Record::default()),
            Some(Ok(record)) => Ok(record.clone()),
            Some(Err(error)) => {
                let file = record_name(name);
                Err(anyhow::anyhow!("the registry's file logstores/{file} cannot be used: {error}").into())
            }
        }
    }

    fn write(&self, records: &mut Records, name: &LogstoreName, record: Record) -> Result<(), Refused> {
        let file = record_name(name);
        let write = || -> Result<()> {
            let unfinished = self.disk.write(Room::Logstores, &serde_json::to_vec_pretty(&record)?)?;
            if let Err(error) = self.disk.rename(Room::Logstores, &unfinished, &file) {
                let _ = self.disk.remove(Room::Logstores, &unfinished);
                return Err(error.into());
            }
            Ok(self.disk.sync(Room::Logstores)?)
        };
        match write().with_context(|| format!("writing the registry's file logstores/{file}")) {
            Ok(()) => {
                records.insert(name.clone(), Ok(record));
                Ok(())
            }
            Err(error) => {
                // It may have its name already.
                match read(&*self.disk, &file) {
                    Ok(record) => _ = records.insert(name.clone(), Ok(record)),
                    Err(_) => tracing::error!(logstore = %name, "the record of its uploaded plugins cannot be read"),
                }
                Err(error.into())
            }
        }
    }

    /// Removes a blob if no record names it. One that stays is removed when the registry is opened.
    fn remove_unused(&self, records: &Records, digest: &str) {
        let file = blob_name(digest);
        if digests(records).is_some_and(|used| !used.contains(&file)) {
            let _ = self.disk.remove(Room::Blobs, &file);
        }
    }
}

type Records = BTreeMap<LogstoreName, Result<Record, String>>;

impl Record {
    fn find(&self, number: u64) -> Result<&Version, Refused> {
        self.versions.iter().find(|version| version.number == number).ok_or(Refused::Unknown(number))
    }

    fn find_mut(&mut self, number: u64) -> Result<&mut Version, Refused> {
        self.versions.iter_mut().find(|version| version.number == number).ok_or(Refused::Unknown(number))
    }

    fn activate(&mut self, number: u64) {
        let choice = &mut self.choice;
        choice.canary = None;
        if choice.active != number {
            choice.before = Some(choice.active);
            choice.active = number;
        }
    }

    fn end_canary(&mut self, note: &str) -> bool {
        let Some(canary) = self.choice.canary.take() else { return false };
        if let Ok(version) = self.find_mut(canary.version) {
            version.note = Some(note.to_owned());
        }
        true
    }

    /// Whether it is as this module makes them.
    fn check(&self) -> Result<()> {
        let numbers: Vec<_> = self.versions.iter().map(|version| version.number).collect();
        ensure!(numbers.is_sorted_by(|a, b| a < b), "its versions are not in order");
        ensure!(numbers.iter().all(|number| (1..=self.last).contains(number)), "a version has a number of no upload");
        let is_digest = |digest: &str| digest.len() == 64 && digest.bytes().all(|b| b.is_ascii_hexdigit());
        ensure!(self.versions.iter().all(|version| is_digest(&version.digest)), "a digest is none");
        let Choice { active, before, canary } = &self.choice;
        let named = [Some(*active), *before].into_iter().flatten().filter(|number| *number != 0);
        for number in named.chain(canary.map(|canary| canary.version)) {
            self.find(number)?;
        }
        Ok(())
    }
}

fn read(disk: &dyn Disk, file: &str) -> Result<Record> {
    let record: Record = serde_json::from_slice(&disk.read(Room::Logstores, file, RECORD)?)?;
    record.check()?;
    Ok(record)
}

/// The names of all blobs; none if a record is damaged.
fn digests(records: &Records) -> Option<BTreeSet<String>> {
    let mut used = BTreeSet::new();
    for record in records.values() {
        used.extend(record.as_ref().ok()?.versions.iter().map(|version| blob_name(&version.digest)));
    }
    Some(used)
}

/// Neither part of a name has a `+` in it.
fn record_name(name: &LogstoreName) -> String {
    format!("{}+{}.json", name.project, name.logstore)
}

fn name_of(file: &str) -> Option<LogstoreName> {
    let (project, logstore) = file.strip_suffix(".json")?.split_once('+')?;
    format!("{project}/{logstore}").parse().ok()
}

fn blob_name(digest: &str) -> String {
    format!("{digest}.wasm")
}

/// SHA-256 in hex.
pub fn hex_digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// RFC 3339, in seconds.
fn now() -> String {
    let second = jiff::Timestamp::now().as_second();
    jiff::Timestamp::from_second(second).unwrap_or_default().to_string()
}
