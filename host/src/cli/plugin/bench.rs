//! `weir plugin bench`: what a plugin costs, how far it is from each limit, and where its fuel goes.

mod flame;
mod input;
mod measure;
mod report;

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use self::input::Case;
use self::measure::Bench;
use crate::cli::screen::{has_colours, on_one_line, print, print_json};
use crate::cli::{Usage, user_cache};
use crate::mock::LogType;
use crate::sandbox::cache::Whose;
use crate::sandbox::compile::{ByChild, Compiler};
use crate::sandbox::profile::{Profile, Profiled};

/// Measure plugins: speed, fuel, memory, and how far they are from each limit
///
/// Each runs in the agent's sandbox, with the default limits, on batches as the agent makes them. Its lines are those of
/// its project's golden files (tests/golden, beside the .wasm or above it), repeated to some megabytes, case by case with
/// their settings, unless others are given. Times are of CPU. Exits with 70 if a limit is exceeded.
#[derive(clap::Args)]
pub struct Args {
    /// Plugins, or directories that have one each
    #[arg(value_name = "FILE.wasm", default_value = ".")]
    plugins: Vec<PathBuf>,
    /// Lines to measure with
    #[arg(long, value_name = "LOG", conflicts_with = "lines")]
    input: Option<PathBuf>,
    /// Lines that `weir mock-log` makes, of this kind
    #[arg(long, value_enum, value_name = "KIND")]
    lines: Option<LogType>,
    /// Settings, as JSON, or @FILE [default: those of the golden case, or {}]
    #[arg(long, value_name = "JSON")]
    settings: Option<String>,
    /// A directory whose files the plugin may read [default: CASE.files of the golden case, if there is one]
    #[arg(long, value_name = "DIR")]
    files: Option<PathBuf>,
    /// Only this golden case; several may be given
    #[arg(long, value_name = "NAME", conflicts_with_all = ["input", "lines"])]
    case: Vec<String>,
    /// Also find out where the fuel goes: a flame graph (.svg), or stacks as text for other tools (.folded)
    #[arg(long, value_name = "OUT.svg")]
    profile: Option<PathBuf>,
    /// All numbers, as JSON
    #[arg(long)]
    json: bool,
}

/// Functions that are named as those where the fuel goes.
const FUNCTIONS: usize = 10;

pub fn run(args: &Args) -> Result<()> {
    crate::cli::log::start("error");
    if let Some(out) = &args.profile {
        check_profile(args, out)?;
    }
    let progress = Progress::new();
    let mut benches = Vec::new();
    for file in &args.plugins {
        let file = wasm(file)?;
        let cases = input::cases(&file, args)?;
        benches.push(measure::bench(&file, &cases, &progress)?);
        if let Some(out) = &args.profile {
            let profile = profile(&file, &cases, &progress)?;
            let name = &benches[0].name;
            write_profile(out, name, &profile)?;
            benches[0].functions = report::functions(&profile, FUNCTIONS);
        }
    }
    progress.clear();
    match args.json {
        true => print_json(&serde_json::json!({ "plugins": benches }))?,
        false => print(&report::text(&benches, args.profile.as_deref(), has_colours()))?,
    }
    fail_beyond_limits(&benches)
}

fn check_profile(args: &Args, out: &Path) -> Result<()> {
    if args.plugins.len() > 1 {
        return Err(Usage("a profile is of one plugin".to_owned()).into());
    }
    if !["svg", "folded"].iter().any(|known| out.extension().is_some_and(|extension| extension == *known)) {
        return Err(Usage(format!("--profile {}: its name must end in .svg or .folded", out.display())).into());
    }
    Ok(())
}

/// The plugin that is meant: the file, or the only one in the directory.
fn wasm(path: &Path) -> Result<PathBuf> {
    if !path.is_dir() {
        return Ok(path.to_owned());
    }
    let entries = path.read_dir().with_context(|| format!("reading {}", path.display()))?;
    let files = entries.flatten().map(|entry| path.join(entry.file_name()));
    let mut files: Vec<_> = files.filter(|file| file.extension().is_some_and(|end| end == "wasm")).collect();
    files.sort();
    match files.as_slice() {
        [file] => Ok(file.clone()),
        [] => bail!("{} has no .wasm; build it first: weir plugin build {}", path.display(), path.display()),
        [first, second, ..] => {
            bail!("{} has several plugins, such as {} and {}: name one", path.display(), name(first), name(second))
        }
    }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn profile(file: &Path, cases: &[Case], progress: &Progress) -> Result<Profile> {
    progress.say("compiling it for the profile");
    let compiler = Compiler::new(&user_cache(), Whose::Shared, ByChild::default())?;
    let mut profiled = Profiled::load(file, compiler)?;
    let mut all = Profile::default();
    for case in cases {
        let told = |done: f64| progress.say(&format!("{}: where the fuel goes, {:.0} %", case.name, 100.0 * done));
        profiled.configure(&case.settings, case.files());
        let profile = profiled.profile(&case.batches, told);
        let profile = profile.with_context(|| format!("the profile of {}", case.name))?;
        all.add((cases.len() > 1).then_some(&case.name), profile);
    }
    ensure!(all.samples > 0, "the plugin uses no fuel of which there could be a profile");
    Ok(all)
}

fn write_profile(out: &Path, name: &str, profile: &Profile) -> Result<()> {
    let text = match out.extension().is_some_and(|extension| extension == "svg") {
        true => flame::svg(&format!("Fuel of {name}"), profile),
        false => profile.folded(),
    };
    std::fs::write(out, text).with_context(|| format!("writing {}", out.display()))
}

fn fail_beyond_limits(benches: &[Bench]) -> Result<()> {
    let runs = benches.iter().flat_map(|bench| bench.cases.iter().map(move |case| (bench, case)));
    let faults: Vec<_> = runs
        .filter_map(|(bench, case)| {
            let fault = on_one_line(case.fault.as_ref()?);
            Some(format!("{}, {}: {fault}", bench.name, case.case))
        })
        .collect();
    ensure!(faults.is_empty(), "{}", faults.join("\n       "));
    Ok(())
}

/// What is being done, on a line of the terminal that the next one takes.
struct Progress {
    is_shown: bool,
}

impl Progress {
    fn new() -> Self {
        Progress { is_shown: io::stderr().is_terminal() }
    }

    fn say(&self, what: &str) {
        if self.is_shown {
            let _ = write!(io::stderr(), "\r\x1b[K{} …", on_one_line(what));
        }
    }

    fn clear(&self) {
        if self.is_shown {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}
