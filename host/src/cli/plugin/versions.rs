//! `weir plugin list`, `activate`, `rollback`, `remove` and `download`: the versions of a logstore's plugin.

use std::fs::Permissions;
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use reqwest::Method;

use crate::admin::Versions;
use crate::admin::upload::Chosen;
use crate::cli::Usage;
use crate::cli::client::{self, Client, Whom};
use crate::cli::screen::{Cell, Look, Table, has_colours, on_one_line, print, print_json, short, size};
use crate::config::LogstoreName;
use crate::registry::{By, Choice, Version, hex_digest};
use crate::sandbox::limits::COMPONENT_BYTES;

/// Show the versions of a logstore's plugin that were uploaded, and which of them runs
#[derive(clap::Args)]
pub struct List {
    #[command(flatten)]
    which: Which,
    /// What the agent answers, as JSON
    #[arg(long)]
    json: bool,
}

/// Run another version
#[derive(clap::Args)]
pub struct Activate {
    #[command(flatten)]
    which: Which,
    /// Its number, as `list` has it; 0 is what the configuration says
    version: u64,
    /// Run it on so many percent of the files first; it goes back by itself if it fails on more than what runs now
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    canary: Option<u8>,
    /// What the agent answers, as JSON
    #[arg(long)]
    json: bool,
}

/// End what is tried on a part of the files; or run again what ran before
#[derive(clap::Args)]
pub struct Rollback {
    #[command(flatten)]
    which: Which,
    /// What the agent answers, as JSON
    #[arg(long)]
    json: bool,
}

/// Remove a version that does not run
#[derive(clap::Args)]
pub struct Remove {
    #[command(flatten)]
    which: Which,
    /// Its number, as `list` has it
    version: u64,
}

/// Save a version's .wasm, as it was uploaded
#[derive(clap::Args)]
pub struct Download {
    #[command(flatten)]
    which: Which,
    /// Its number, as `list` has it
    version: u64,
    /// Where to; - is standard output [default: LOGSTORE-VERSION.wasm]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Whose versions.
#[derive(clap::Args)]
struct Which {
    #[command(flatten)]
    whom: Whom,
    /// The logstore
    #[arg(value_name = "PROJECT/LOGSTORE")]
    logstore: LogstoreName,
}

impl Which {
    /// Where they are.
    fn path(&self) -> String {
        format!("{}/plugins", client::logstore(&self.logstore))
    }

    /// Has the choice changed, and says what runs then.
    fn change(&self, path: &str, json: bool) -> Result<()> {
        let chosen: Chosen = self.whom.client()?.post(path, |request| request)?;
        let said = || format!("{}\n{}", runs(&self.logstore, &chosen.choice), later(chosen.pending));
        if json { print_json(&chosen) } else { print(&said()) }
    }
}

/// `10%` or `10`.
pub fn percent(text: &str) -> Result<u8, String> {
    let number = text.strip_suffix('%').unwrap_or(text).parse().ok().filter(|percent| (1..=99).contains(percent));
    number.ok_or_else(|| "must be from 1% to 99%".to_owned())
}

/// What is to be said of a logstore that has yet to come to what it runs, as a line.
pub fn later(pending: bool) -> &'static str {
    if pending { "it has no turn yet, or waits for something, and comes to it when it can\n" } else { "" }
}

/// What a logstore runs, in words.
pub fn runs(name: &LogstoreName, choice: &Choice) -> String {
    let version = |number: u64| match number {
        0 => "what the configuration says".to_owned(),
        number => format!("version {number}"),
    };
    match choice.canary {
        None => format!("{name} runs {}", version(choice.active)),
        Some(canary) => format!(
            "{name} runs {}, and version {} on {}% of the files",
            version(choice.active),
            canary.version,
            canary.percent
        ),
    }
}

pub fn list(args: &List) -> Result<()> {
    let client = args.which.whom.client()?;
    if args.json {
        return print_json(&client.get::<serde_json::Value>(&args.which.path())?);
    }
    let versions = client.get(&args.which.path())?;
    print(&listed(&args.which.logstore, &versions, has_colours()))
}

fn listed(name: &LogstoreName, versions: &Versions, colours: bool) -> String {
    let mut table = Table::new(&["VERSION", "STATE", "NAME", "DIGEST", ">SIZE", "UPLOADED", "BY", "NOTE"]);
    for version in &versions.versions {
        let (state, look) = state(version.number, &versions.choice);
        let by = match version.by {
            By::Operator => "operator",
            By::Project => "project",
        };
        table.row(vec![
            version.number.to_string().into(),
            Cell::new(state, look),
            format!("{} {}", version.name, version.plugin_version).trim_end().into(),
            short(&version.digest).into(),
            size(version.size).into(),
            (&version.pushed_at).into(),
            by.into(),
            version.note.as_deref().unwrap_or_default().into(),
        ]);
    }
    let mut text = table.text(colours);
    text += &format!("{}\n", runs(name, &versions.choice));
    if let Some(refusal) = &versions.refusal {
        text += &format!("nothing can be uploaded: {}\n", on_one_line(refusal));
    }
    text
}

fn state(number: u64, choice: &Choice) -> (String, Look) {
    match choice.canary.filter(|canary| canary.version == number) {
        Some(canary) => (format!("on {}%", canary.percent), Look::Warning),
        None if choice.active == number => ("runs".to_owned(), Look::Good),
        None if choice.before == Some(number) => ("before".to_owned(), Look::Plain),
        None => (String::new(), Look::Plain),
    }
}

pub fn activate(args: &Activate) -> Result<()> {
    let canary = args.canary.map(|percent| format!("?canary={percent}")).unwrap_or_default();
    args.which.change(&format!("{}/{}/activate{canary}", args.which.path(), args.version), args.json)
}

pub fn rollback(args: &Rollback) -> Result<()> {
    args.which.change(&format!("{}/rollback", args.which.path()), args.json)
}

pub fn remove(args: &Remove) -> Result<()> {
    args.which.whom.client()?.delete(&format!("{}/{}", args.which.path(), args.version))?;
    print(&format!("version {} of {} is removed\n", args.version, args.which.logstore))
}

pub fn download(args: &Download) -> Result<()> {
    let is_to_stdout = args.output.as_deref() == Some(Path::new("-"));
    if is_to_stdout && io::stdout().is_terminal() {
        return Err(Usage("a .wasm is not for a terminal: give -o FILE".to_owned()).into());
    }
    let (name, number) = (&args.which.logstore, args.version);
    let client = args.which.whom.client()?;
    let versions: Versions = client.get(&args.which.path())?;
    let version = versions.versions.iter().find(|version| version.number == number);
    let version = version.with_context(|| format!("{name} has no version {number}: see `weir plugin list {name}`"))?;
    let bytes = fetch(&client, &args.which.path(), version)?;
    if is_to_stdout {
        return Ok(io::stdout().write_all(&bytes)?);
    }
    let file = args.output.clone().unwrap_or_else(|| format!("{}-{number}.wasm", name.logstore).into());
    save(&file, &bytes).with_context(|| format!("writing {}", file.display()))?;
    print(&format!("{}: version {number} of {name}, sha256:{}\n", file.display(), on_one_line(&version.digest)))
}

/// What is in the list is what comes.
fn fetch(client: &Client, path: &str, version: &Version) -> Result<Vec<u8>> {
    let most = usize::try_from(version.size.min(COMPONENT_BYTES))?;
    let bytes = client.block_on(async {
        let path = format!("{path}/{}", version.number);
        let response = client.open(Method::GET, &path, Some(client::SEEING), |request| request).await?;
        client.read(response, most).await
    })?;
    ensure!(
        hex_digest(&bytes) == version.digest,
        "version {} was damaged on the way: its digest is another",
        version.number
    );
    Ok(bytes)
}

/// The whole file, or what was there before.
pub fn save(file: &Path, bytes: &[u8]) -> Result<()> {
    let dir = file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut new = tempfile::Builder::new().permissions(Permissions::from_mode(0o666)).tempfile_in(dir)?;
    new.write_all(bytes)?;
    new.persist(file)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Canary;

    #[test]
    fn parts_are_percents() {
        assert_eq!(["1", "10%", "99%"].map(percent), [Ok(1), Ok(10), Ok(99)]);
        for wrong in ["0", "100%", "0.5", "ten", "%", "10%%"] {
            assert!(percent(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn versions_are_listed_with_what_became_of_them() {
        let version = |number, note: Option<&str>| Version {
            number,
            digest: "0123456789abcdef".repeat(4),
            size: 150_000,
            name: "nginx".to_owned(),
            plugin_version: "0.1.0".to_owned(),
            settings: serde_json::json!({}),
            pushed_at: "2026-03-04T05:06:07Z".to_owned(),
            by: By::Project,
            signature: None,
            note: note.map(str::to_owned),
        };
        let choice = Choice { active: 2, before: Some(1), canary: Some(Canary { version: 4, percent: 10 }) };
        let all = vec![version(1, None), version(2, None), version(3, Some("went\x1bback")), version(4, None)];
        let name = "shop/app".parse().unwrap();
        let versions = Versions { choice, versions: all, refusal: None };
        let expected = "\
VERSION  STATE   NAME         DIGEST            SIZE  UPLOADED              BY       NOTE
1        before  nginx 0.1.0  0123456789ab  146.5KiB  2026-03-04T05:06:07Z  project
2        runs    nginx 0.1.0  0123456789ab  146.5KiB  2026-03-04T05:06:07Z  project
3                nginx 0.1.0  0123456789ab  146.5KiB  2026-03-04T05:06:07Z  project  went\\u{1b}back
4        on 10%  nginx 0.1.0  0123456789ab  146.5KiB  2026-03-04T05:06:07Z  project
shop/app runs version 2, and version 4 on 10% of the files
";
        assert_eq!(listed(&name, &versions, false), expected);
        let none = Versions { choice: Choice::default(), versions: Vec::new(), refusal: Some("off".to_owned()) };
        let expected = "shop/app runs what the configuration says\nnothing can be uploaded: off\n";
        assert_eq!(listed(&name, &none, false), expected);
    }
}
