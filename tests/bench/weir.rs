//! weir: the agent that is measured.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde::Deserialize;
use weir::agent::{Agent, GRACE, Options};
use weir::config;
use weir::lane::Mode;

use crate::check::{self, Time};
use crate::corpus::Corpus;
use crate::job::Job;
use crate::measure::{self, Sample};

/// Events that are enough to compile and cache a job's plugin.
const WARM_UP_EVENTS: u64 = 100;

/// How nginx's format `main` is read by a regular expression.
const PATTERN: &str = concat!(
    r#"^(?<remote_addr>\S+) - (?<remote_user>\S+) \[(?<time_local>[^\]]+)\] "#,
    r#""(?<request_method>\S+) (?<request_uri>\S+) (?<server_protocol>[^"]+)" "#,
    r#"(?<status>\d+) (?<body_bytes_sent>\d+) "#,
    r#""(?<http_referer>[^"]*)" "(?<http_user_agent>[^"]*)" "(?<http_x_forwarded_for>[^"]*)"$"#,
);

/// The command of this program that is an agent which trusts its plugins.
pub const TRUSTING_AGENT: &str = "__trusting-agent";

/// Is `weir run -c FILE --until-idle --summary FILE`, without fuel and checks.
pub fn trusting_agent() -> anyhow::Result<()> {
    let args: Vec<_> = std::env::args().collect();
    let [_, _, _, file, _, _, summary] = &args[..] else { bail!("this command is for the benchmark itself") };
    let loaded = config::load(Path::new(file))?;
    let options = Options { mode: Mode::until_idle(), trusts_plugins: true, ..Options::default() };
    let agent = Agent::start(&loaded.config, file, options)?;
    while !agent.is_done() {
        std::thread::sleep(Duration::from_millis(5));
    }
    let books = agent.books();
    agent.stop(GRACE)?;
    Ok(fs::write(summary, serde_json::to_vec(&books.summary())?)?)
}

/// The program and where it may work.
pub struct Weir {
    program: PathBuf,
    plugins: PathBuf,
    dir: PathBuf,
    /// Shared by all runs: it keeps the compiled plugins.
    data: PathBuf,
}

/// What `--summary` says about a logstore, as far as it matters here. All in events.
#[derive(Debug, PartialEq, Deserialize)]
struct Account {
    read: u64,
    delivered: u64,
    dropped: u64,
    kept_raw: u64,
}

#[derive(Deserialize)]
struct Summary {
    logstores: BTreeMap<String, Account>,
}

impl Weir {
    pub fn new(program: &Path, plugins: &Path, dir: &Path) -> anyhow::Result<Weir> {
        let absolute = |path: &Path| {
            path.canonicalize().with_context(|| format!("cannot find {}: build it first", path.display()))
        };
        let data = dir.join("data");
        fs::create_dir_all(&data)?;
        Ok(Weir { program: absolute(program)?, plugins: absolute(plugins)?, dir: dir.to_owned(), data })
    }

    /// Runs a job on a few events, so that its plugin is compiled.
    pub fn warm_up(&self, job: Job, corpus: &Corpus) -> anyhow::Result<()> {
        let sample = corpus.sample(WARM_UP_EVENTS)?;
        self.run(job, &sample).with_context(|| format!("{job}: weir, on the first {WARM_UP_EVENTS} events"))?;
        Ok(())
    }

    /// Runs a job from a clean checkpoint. An error if the process fails or the output is not exactly right.
    pub fn run(&self, job: Job, corpus: &Corpus) -> anyhow::Result<Sample> {
        self.run_by(Command::new(&self.program).arg("run"), job, corpus, None)
    }

    /// The same with that sink instead of a job's own.
    pub fn run_to(&self, job: Job, corpus: &Corpus, sink: &str) -> anyhow::Result<Sample> {
        self.run_by(Command::new(&self.program).arg("run"), job, corpus, Some(sink))
    }

    /// The same without fuel and checks, which only this program can do.
    pub fn run_trusting(&self, job: Job, corpus: &Corpus) -> anyhow::Result<Sample> {
        self.run_by(Command::new(std::env::current_exe()?).arg(TRUSTING_AGENT), job, corpus, None)
    }

    fn run_by(&self, command: &mut Command, job: Job, corpus: &Corpus, sink: Option<&str>) -> anyhow::Result<Sample> {
        let mut run = tempfile::Builder::new().prefix("weir-").tempdir_in(&self.dir)?;
        let sample = self.run_in(run.path(), command, job, corpus, sink);
        if sample.is_err() {
            run.disable_cleanup(true);
        }
        sample.with_context(|| format!("see {}", run.path().display()))
    }

    fn run_in(
        &self,
        run: &Path,
        command: &mut Command,
        job: Job,
        corpus: &Corpus,
        sink: Option<&str>,
    ) -> anyhow::Result<Sample> {
        let checkpoint = self.data.join("checkpoint.redb");
        if checkpoint.exists() {
            fs::remove_file(checkpoint)?;
        }
        fs::write(run.join("weir.yaml"), self.config(run, job, corpus, sink))?;
        let stderr = run.join("stderr");

        let start = Instant::now();
        let child = command
            .args(["-c", "weir.yaml", "--until-idle", "--summary", "summary.json"])
            .current_dir(run)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&stderr)?)
            .spawn()
            .with_context(|| format!("cannot start {}", self.program.display()))?;
        let (wall, usage) = measure::wait(child, start)
            .with_context(|| fs::read_to_string(&stderr).unwrap_or_default().trim_end().to_owned())?;

        let account = account(&run.join("summary.json"))?;
        let expected = Account { read: corpus.events, delivered: corpus.events, dropped: 0, kept_raw: 0 };
        ensure!(account == expected, "expected {expected:?}, the summary says {account:?}");
        if job.has_output() {
            let time = if job == Job::Nginx { Time::Demanded } else { Time::Ignored };
            check::ndjson(job, corpus, &output(run), corpus.events, time)?;
        }
        Ok(Sample::new(corpus.bytes, corpus.events, account.delivered, wall, usage))
    }

    fn config(&self, run: &Path, job: Job, corpus: &Corpus, sink: Option<&str>) -> String {
        let Weir { plugins, data, .. } = self;
        let (root, file) = (corpus.path.parent(), corpus.path.file_name());
        let (root, file) = (root.unwrap_or(Path::new("/")), file.unwrap_or_default());
        let framing = match job {
            Job::Join => r"multiline: { start: '^\d{4}-\d\d-\d\d ' }",
            Job::Cri => "format: cri",
            _ => "",
        };
        let plugin = match job {
            Job::Tail | Job::Join | Job::Cri => String::new(),
            Job::Nginx | Job::NginxToNowhere | Job::Network => "{ use: nginx, settings: { format: main } }".to_owned(),
            Job::Regex => format!("{{ use: regex, settings: {{ pattern: '{PATTERN}' }} }}"),
            Job::Json => "{ use: json }".to_owned(),
        };
        let sink = match (sink, job.has_output()) {
            (Some(sink), _) => sink.to_owned(),
            (None, true) => format!("{{ type: file, path: {:?} }}", output(run)),
            (None, false) => "{ type: blackhole }".to_owned(),
        };
        format!(
            "data_dir: {data:?}
plugin_dirs: [{plugins:?}]
projects:
  bench: {{ share: 1 }}
logstores:
  - name: bench/log
    files:
      root: {root:?}
      include: [{file:?}]
      from: beginning
      {framing}
    plugins: [{plugin}]
    sink: out
sinks:
  out: {sink}
"
        )
    }
}

fn output(run: &Path) -> PathBuf {
    run.join("out.ndjson")
}

/// Reads the account of the only logstore.
fn account(summary: &Path) -> anyhow::Result<Account> {
    let text = fs::read_to_string(summary).context("cannot read what --summary wrote")?;
    let mut summary: Summary =
        serde_json::from_str(&text).with_context(|| format!("the summary is not as expected: {text}"))?;
    summary.logstores.remove("bench/log").with_context(|| format!("the summary lacks bench/log: {text}"))
}
