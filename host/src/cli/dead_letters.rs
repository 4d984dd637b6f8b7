//! `weir dead-letters`: events that destinations have refused.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use bytes::Bytes;

use super::Usage;
use super::config_file::ConfigFile;
use crate::config::{Config, LogstoreName};
use crate::sink::compress;
use crate::sink::dead_letters::{self, DeadLetters, Letter};
use crate::sink::delivery::{Outcome, Runtime, Transport};
use crate::sink::records::Layout;
use crate::sinks;

/// Characters of a reason in a table.
const SHOWN: usize = 80;

#[derive(clap::Subcommand)]
pub enum Command {
    /// List them: whose, refused by which sink, when and why
    List {
        #[command(flatten)]
        place: Place,
        /// Only those of this logstore
        #[arg(value_name = "PROJECT/LOGSTORE")]
        logstore: Option<LogstoreName>,
        /// One line of JSON for each
        #[arg(long)]
        json: bool,
    },
    /// Show one: all that is known of it, and what was sent
    ///
    /// What is no text is shown with escapes.
    Show {
        #[command(flatten)]
        place: Place,
        /// Its id, as `list` has it
        id: String,
        /// Write only what was sent, byte for byte
        #[arg(long)]
        raw: bool,
    },
    /// Send them again, each by itself, and remove those that are delivered
    ///
    /// Each goes through its sink as the configuration has it now, once. One that is refused again stays, with the new
    /// reason; one whose sink is not reached stays as it is. Exits with 70 if any stays.
    Replay {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        which: Which,
    },
    /// Remove them: their events are lost then
    Remove {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        which: Which,
    },
}

/// Where they are.
#[derive(clap::Args)]
pub struct Place {
    #[command(flatten)]
    config: ConfigFile,
}

/// Which of them.
#[derive(clap::Args)]
pub struct Which {
    /// Their ids, as `list` has them; or a PROJECT/LOGSTORE, for all of its letters
    #[arg(value_name = "ID|PROJECT/LOGSTORE", required_unless_present = "all", conflicts_with = "all")]
    which: Vec<String>,
    /// All there are
    #[arg(long)]
    all: bool,
}

impl Which {
    fn files(&self, config: &Config, dir: &Path) -> Result<Vec<PathBuf>> {
        if self.all { Ok(DeadLetters::files(dir, None)?) } else { chosen(config, dir, &self.which) }
    }
}

pub fn run(command: &Command) -> Result<()> {
    super::log::start("warn");
    match command {
        Command::List { place, logstore, json } => {
            let (config, dir) = place.open()?;
            if let Some(logstore) = logstore {
                of_logstore(&config, &dir, logstore)?;
            }
            list(&dir, logstore.as_ref(), *json)
        }
        Command::Show { place, id, raw } => {
            let (config, dir) = place.open()?;
            match &chosen(&config, &dir, std::slice::from_ref(id))?[..] {
                [one] => show(one, *raw),
                several => Err(Usage(format!("{id} has {} dead letters: say which", several.len())).into()),
            }
        }
        Command::Replay { place, which } => {
            let (config, dir) = place.open()?;
            replay(&config, &which.files(&config, &dir)?)
        }
        Command::Remove { place, which } => {
            let (config, dir) = place.open()?;
            for file in &which.files(&config, &dir)? {
                dead_letters::remove(file).with_context(|| file.display().to_string())?;
                say!("{}: removed", id(file));
            }
            Ok(())
        }
    }
}

impl Place {
    /// The configuration, and the directory of its dead letters.
    fn open(&self) -> Result<(Config, PathBuf)> {
        let config = self.config.load()?.config;
        let dir = sinks::dead_letters_dir(&config);
        Ok((config, dir))
    }
}

/// What names a letter: unique among those of an agent.
fn id(file: &Path) -> String {
    file.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// The files of letters by their ids, or by their logstores.
fn chosen(config: &Config, dir: &Path, which: &[String]) -> Result<Vec<PathBuf>> {
    let all = DeadLetters::files(dir, None)?;
    let mut files = Vec::new();
    for wanted in which {
        match wanted.parse::<LogstoreName>() {
            Ok(logstore) => files.extend(of_logstore(config, dir, &logstore)?),
            Err(_) => match all.iter().find(|file| id(file) == *wanted) {
                Some(file) => files.push(file.clone()),
                None => {
                    return Err(Usage(format!("there is no dead letter {wanted}: see `weir dead-letters list`")).into());
                }
            },
        }
    }
    files.sort();
    files.dedup();
    Ok(files)
}

/// Those of a logstore, which has some or is in the configuration: another name is a mistake.
fn of_logstore(config: &Config, dir: &Path, logstore: &LogstoreName) -> Result<Vec<PathBuf>> {
    let files = DeadLetters::files(dir, Some(logstore))?;
    if files.is_empty() && config.logstores.iter().all(|known| known.name != *logstore) {
        return Err(
            Usage(format!("there is no logstore {logstore} in the configuration, and no dead letter of it")).into()
        );
    }
    Ok(files)
}

fn list(dir: &Path, logstore: Option<&LogstoreName>, json: bool) -> Result<()> {
    let mut rows = vec![["LOGSTORE", "SINK", "TIME", "SIZE", "ID", "REASON"].map(str::to_owned).to_vec()];
    for file in DeadLetters::files(dir, logstore)? {
        // A running agent, or another command, may have taken it away.
        let (head, size) = match dead_letters::read_head(&file) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            read => read.with_context(|| file.display().to_string())?,
        };
        if json {
            let dead_letters::Head { sink, format, logstore, reason, time, events } = head;
            let line = serde_json::json!({
                "id": id(&file), "logstore": logstore, "sink": sink, "format": format, "time": time, "reason": reason,
                "events": events, "size": size, "file": file,
            });
            say!("{line}");
            continue;
        }
        let reason: String = head.reason.escape_debug().take(SHOWN).collect();
        rows.push(vec![head.logstore, head.sink, head.time, size.to_string(), id(&file), reason]);
    }
    match rows.len() {
        1 if !json => say!("there are no dead letters"),
        1 => {}
        _ => super::print_left(&rows),
    }
    Ok(())
}

fn show(file: &Path, raw: bool) -> Result<()> {
    let Letter { head, body } = dead_letters::read(file).with_context(|| file.display().to_string())?;
    let mut out = std::io::stdout().lock();
    if raw {
        return Ok(out.write_all(&body)?);
    }
    let rows = [
        ("id", id(file)),
        ("logstore", head.logstore),
        ("sink", head.sink),
        ("format", head.format),
        ("time", head.time),
        ("reason", head.reason.escape_debug().to_string()),
        ("events", head.events.to_string()),
        ("size", body.len().to_string()),
    ];
    for (name, value) in rows {
        writeln!(out, "{name:<9} {value}")?;
    }
    writeln!(out)?;
    let is_text = |c: char| !c.is_control() || matches!(c, '\n' | '\t');
    match str::from_utf8(&body) {
        Ok(text) if text.chars().all(is_text) => writeln!(out, "{}", text.trim_end_matches('\n'))?,
        _ => writeln!(out, "{}", body.escape_ascii())?,
    }
    Ok(())
}

fn replay(config: &Config, files: &[PathBuf]) -> Result<()> {
    let runtime = Runtime::start().context("starting the threads of the network")?;
    let mut transports = Transports { config, made: Vec::new() };
    let (mut delivered, mut left) = (0, 0);
    for file in files {
        let id = id(file);
        match runtime.block_on(transports.send(file)) {
            Ok(Sent::Delivered) => {
                delivered += 1;
                dead_letters::remove(file).with_context(|| file.display().to_string())?;
                say!("{id}: delivered");
            }
            Ok(Sent::Gone) => say!("{id}: is not there any more"),
            Ok(Sent::Refused(letter)) => {
                left += 1;
                say!("{id}: refused again: {}", letter.head.reason.escape_debug());
                dead_letters::replace(file, &letter).with_context(|| file.display().to_string())?;
            }
            Err(error) => {
                left += 1;
                say!("{id}: not delivered: {error:#}");
            }
        }
    }
    say!("delivered: {delivered}, left: {left}");
    if left > 0 {
        bail!("{left} of {} dead letters are still there", files.len());
    }
    Ok(())
}

/// What became of a letter.
enum Sent {
    Delivered,
    /// Somebody else has removed it.
    Gone,
    /// The letter with its new reason.
    Refused(Letter),
}

/// The transports of those sinks that letters were for.
struct Transports<'c> {
    config: &'c Config,
    made: Vec<(String, Box<dyn Transport>)>,
}

impl Transports<'_> {
    async fn send(&mut self, file: &Path) -> Result<Sent> {
        let letter = match dead_letters::read(file) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Sent::Gone),
            read => read?,
        };
        let name = &letter.head.sink;
        let sink = self.config.sinks.get(name).with_context(|| format!("there is no sink {name} any more"))?;
        if !self.made.iter().any(|(known, _)| known == name) {
            let transport = sinks::transport(name, sink).with_context(|| format!("the sink {name} is local now"))?;
            self.made.push((name.clone(), transport));
        }
        let (_, transport) = self.made.iter().find(|(known, _)| known == name).expect("just made");
        let (was, is) = (&letter.head.format, transport.format());
        if !was.is_empty() && was != is {
            bail!("it was written as {was}, and the sink {name} takes {is} now");
        }
        let compression = sinks::compression(sink);
        let layout = Layout::of(&letter.body, letter.head.events, compression);
        let bytes = Bytes::from(compress::compress(compression, &letter.body));
        let target: LogstoreName = letter.head.logstore.parse()?;
        let reason = match transport.send(&target, bytes, &layout).await {
            Outcome::Delivered => return Ok(Sent::Delivered),
            Outcome::Again(again) => bail!("{}", again.why),
            Outcome::Refused(reason) | Outcome::SomeRefused { reason, .. } => reason,
            Outcome::Partly { refused, again } => match refused.into_iter().next() {
                Some((_, reason)) => reason,
                None if again.is_empty() => return Ok(Sent::Delivered),
                None => bail!("{} of {} events were pushed back", again.len(), letter.head.events),
            },
        };
        let mut again = Letter::new(name, is, &target, &reason, letter.body.clone());
        again.head.events = letter.head.events;
        Ok(Sent::Refused(again))
    }
}
