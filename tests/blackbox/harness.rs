//! A directory to work in, the agent in it, waiting for conditions, and reading what came out.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{OnceLock, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tempfile::TempDir;
use weir::checkpoint::Checkpoint;
use weir::sink::dead_letters::{self, DeadLetters};

/// Nothing here takes nearly as long on an idle machine.
const DEADLINE: Duration = Duration::from_secs(60);
/// The time between two looks at a condition.
pub const POLL: Duration = Duration::from_millis(5);

/// The plugins that tests use, compiled once.
const PLUGINS: [&str; 5] = ["nginx", "json", "delimiter", "regex", "weir-evil"];

/// Variables that change what weir does.
const SETTINGS: [&str; 11] = [
    "RUST_LOG",
    "WEIR_CONFIG",
    "WEIR_USER_ID",
    "WEIR_MACHINE_GROUP",
    "WEIR_ENV_TAGS",
    "WEIR_ADDRESS",
    "WEIR_TOKEN",
    "ALIYUN_LOGTAIL_CONFIG",
    "ALIYUN_LOGTAIL_USER_ID",
    "ALIYUN_LOGTAIL_USER_DEFINED_ID",
    "ALIYUN_LOG_ENV_TAGS",
];

/// Tests that measure hold it alone, all others together.
static QUIET: RwLock<()> = RwLock::new(());

/// What keeps tests that measure and others apart.
enum Turn {
    Shared(#[allow(dead_code)] RwLockReadGuard<'static, ()>),
    Alone(#[allow(dead_code)] RwLockWriteGuard<'static, ()>),
}

/// A directory with a configuration, logs, and what weir makes of them; gone when it is dropped.
pub struct Site {
    dir: TempDir,
    _turn: Turn,
}

impl Site {
    /// An empty directory, for a test that may run beside others.
    pub fn new() -> Site {
        Site::with(Turn::Shared(QUIET.read().unwrap_or_else(|e| e.into_inner())))
    }

    /// An empty directory, for a test that measures: no other runs until it is dropped.
    pub fn alone() -> Site {
        Site::with(Turn::Alone(QUIET.write().unwrap_or_else(|e| e.into_inner())))
    }

    fn with(turn: Turn) -> Site {
        // Beside the cache, so that it can be linked to.
        let dir = tempfile::Builder::new().prefix("weir-test-").tempdir_in(cache_home()).unwrap();
        let site = Site { dir, _turn: turn };
        fs::create_dir(site.path("logs")).unwrap();
        site.share_compiled_plugins();
        site
    }

    /// Links what is compiled already into the agent's cache: compiling is slow, and tested once.
    fn share_compiled_plugins(&self) {
        let cache = self.path("data/cache");
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&cache).unwrap();
        for file in fs::read_dir(compiled_plugins()).unwrap().map(Result::unwrap) {
            if file.path().extension() == Some(OsStr::new("cwasm")) {
                fs::hard_link(file.path(), cache.join(file.file_name())).unwrap();
            }
        }
    }

    /// The absolute path of something in the directory.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a whole file, with its directories.
    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    /// Appends to a file, which is made if need be.
    pub fn append(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let mut file = OpenOptions::new().append(true).create(true).open(self.path(name)).unwrap();
        file.write_all(bytes.as_ref()).unwrap();
    }

    /// Writes `weir.yaml` with these logstores (the items of the list, as YAML). They may use the sinks `out`, files
    /// that [`Site::events`] reads, and `screen`, standard output.
    pub fn config(&self, logstores: &str) {
        let mut text = format!("data_dir: data\nplugin_dirs: [{:?}, plugins]\nlogstores:\n", plugins());
        text += logstores.trim();
        text += "\nsinks:\n";
        for (sink, what) in
            [("out", "{ type: file, path: \"out/{project}/{logstore}.ndjson\" }"), ("screen", "{ type: stdout }")]
        {
            // One that nobody uses would be warned of.
            if logstores.contains(&format!("sink: {sink}")) {
                text += &format!("  {sink}: {what}\n");
            }
        }
        self.write("weir.yaml", text);
    }

    /// Writes `weir.yaml` with these logstores and these sinks, each as the YAML below its key.
    pub fn config_with(&self, logstores: &str, sinks: &str) {
        let plugins = format!("plugin_dirs: [{:?}, plugins]", plugins());
        self.write("weir.yaml", format!("data_dir: data\n{plugins}\nlogstores:\n{logstores}\nsinks:\n{sinks}\n"));
    }

    /// Writes `weir.yaml` with the logstore `shop/app` of what is in `logs`, with more keys, and its sink, as its keys.
    pub fn config_app(&self, logstore: &str, sink: &str) {
        let keys = format!("name: shop/app\n  files: {{ root: logs }}\n  sink: s\n  {logstore}");
        self.config_with(&format!("- {keys}"), &format!("  s: {{ max_backoff: 1s, {sink} }}"));
    }

    /// Writes `weir.yaml` with the logstores `a/b` of raw lines, in `logs/raw*.log`, and `a/json` of parsed ones, in
    /// `logs/*.json`, and their sink, as its keys.
    pub fn config_raw_and_json(&self, sink: &str) {
        let logstores = "
- { name: a/b, files: { root: logs, include: ['raw*.log'] }, sink: s }
- name: a/json
  files: { root: logs, include: ['*.json'] }
  plugins: [{ use: json, settings: { duplicates: keep, time: { field: ts, format: rfc3339 } } }]
  sink: s";
        self.config_with(logstores, &format!("  s: {{ max_backoff: 1s, {sink} }}"));
    }

    /// Panics if an agent that has ended said a secret, or wrote it into its summary.
    #[track_caller]
    pub fn assert_discreet(&self, ran: &Ran, secret: &str) {
        let summary = fs::read_to_string(self.path("summary.json")).unwrap();
        assert!(!ran.stderr.contains(secret) && !summary.contains(secret), "{}{summary}", ran.stderr);
    }

    /// The dead letters of a logstore: the reason, and what was sent.
    pub fn dead_letters(&self, logstore: &str) -> Vec<(String, Vec<u8>)> {
        let files = DeadLetters::files(&self.path("data/dead_letters"), Some(&logstore.parse().unwrap())).unwrap();
        let letters = files.iter().map(|path| dead_letters::read(path).unwrap());
        letters.map(|letter| (letter.head.reason, letter.body)).collect()
    }

    /// A command of weir in this directory, with no settings from outside.
    pub fn weir<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(binary());
        self.prepare(&mut command);
        command.args(args);
        command
    }

    fn prepare(&self, command: &mut Command) {
        for name in SETTINGS {
            // Unless the test has set it.
            if !command.get_envs().any(|(known, _)| known == name) {
                command.env_remove(name);
            }
        }
        command
            .current_dir(self.dir.path())
            .env("XDG_CACHE_HOME", cache_home())
            .env("WEIR_PLUGIN_DIR", plugins())
            .env("WEIR_TOOLS", cache_home().join("tools"))
            .stdin(Stdio::null());
    }

    /// Runs a command of weir to its end.
    pub fn output<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Done {
        let mut command = self.weir(args);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let pid = child.id();
        let (peak, output) = beside(
            |is_done| {
                let mut peak = 0;
                while !is_done.load(Ordering::Relaxed) {
                    peak = peak_memory(pid).unwrap_or(peak);
                    thread::sleep(Duration::from_millis(1));
                }
                peak
            },
            || child.wait_with_output().unwrap(),
        );
        Done { peak, ..done(output) }
    }

    /// Runs a command of weir with that standard input. It may stop reading early.
    pub fn pipe<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>, input: &[u8]) -> Done {
        let mut command = self.weir(args);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        thread::scope(|scope| {
            scope.spawn(move || stdin.write_all(input));
            done(child.wait_with_output().unwrap())
        })
    }

    /// Runs the agent with `--until-idle` and more arguments, to its end.
    pub fn run_with(&self, args: &[&str]) -> Ran {
        let _ = fs::remove_file(self.path("summary.json"));
        let fixed = ["run", "-c", "weir.yaml", "--summary", "summary.json", "--until-idle"];
        self.ran(self.output(fixed.iter().chain(args)))
    }

    /// Runs the agent until all that is there is settled. It exits with 0.
    pub fn run(&self) -> Ran {
        let ran = self.run_with(&[]);
        ran.assert_code(0);
        ran.assert_settled();
        ran
    }

    /// Starts an agent that follows.
    pub fn start(&self) -> Agent<'_> {
        self.start_by(Command::new(binary()))
    }

    /// Starts an agent that follows, by a command to which only weir's arguments are missing.
    pub fn start_by(&self, command: Command) -> Agent<'_> {
        self.start_with(command, &["-c", "weir.yaml"])
    }

    /// The same with arguments of `run` that say which configuration.
    pub fn start_with(&self, mut command: Command, args: &[&str]) -> Agent<'_> {
        let _ = fs::remove_file(self.path("summary.json"));
        self.prepare(&mut command);
        command.args(["run", "--summary", "summary.json"]).args(args);
        let file = |name: &str| File::create(self.path(name)).unwrap();
        let child = command.stdout(file("stdout")).stderr(file("stderr")).spawn().unwrap();
        Agent { site: self, child, counted: HashMap::new() }
    }

    fn ran(&self, done: Done) -> Ran {
        // It is made at the start and written at the end.
        let summary = fs::read(self.path("summary.json")).ok().filter(|json| !json.is_empty());
        let Books { logstores, projects, sinks } =
            summary.map(|json| serde_json::from_slice(&json).unwrap()).unwrap_or_default();
        let plugins: BTreeMap<_, _> =
            logstores.iter().map(|(name, logstore)| (name.clone(), logstore.plugins.clone())).collect();
        let summary: BTreeMap<_, _> = logstores.into_iter().map(|(name, logstore)| (name, logstore.counts)).collect();
        for (name, accounts) in &summary {
            let [read, delivered, dropped, dead_lettered, discarded, in_flight] =
                ["read", "delivered", "dropped", "dead_lettered", "discarded", "in_flight"]
                    .map(|count| accounts[count]);
            let sum = delivered + dropped + dead_lettered + discarded + in_flight;
            assert_eq!(read, sum, "the accounts of {name}: {accounts:?}");
            let [kept_raw, faulted, suspended] = ["kept_raw", "faulted", "suspended"].map(|count| accounts[count]);
            assert!(kept_raw <= delivered && faulted <= discarded, "the accounts of {name}: {accounts:?}");
            // An event may pass by several plugins of a chain.
            let most = plugins[name].len() as u64 * (kept_raw + faulted + in_flight);
            assert!(suspended <= most, "the accounts of {name}: {accounts:?}");
        }
        Ran { done, summary, plugins, projects, sinks }
    }

    /// What the sink `out` has of a logstore, as bytes; none if there is no file.
    pub fn ndjson(&self, logstore: &str) -> Vec<u8> {
        self.ndjson_from(logstore, 0)
    }

    /// The same from an offset on.
    fn ndjson_from(&self, logstore: &str, offset: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        if let Ok(mut file) = File::open(self.path(format!("out/{logstore}.ndjson"))) {
            file.seek(SeekFrom::Start(offset)).unwrap();
            file.read_to_end(&mut bytes).unwrap();
        }
        bytes
    }

    /// The events that the sink `out` has of a logstore, in their order. Each must be whole.
    pub fn events(&self, logstore: &str) -> Vec<Value> {
        parse(&self.ndjson(logstore))
    }

    /// The field `content` of each event that the sink `out` has of a logstore.
    pub fn contents(&self, logstore: &str) -> Vec<String> {
        /// Much faster than to keep all that an event has.
        #[derive(Deserialize)]
        struct Event {
            content: String,
        }
        each_line(&self.ndjson(logstore), |Event { content }| content)
    }

    /// The settled offsets of a logstore's files, by their paths. The agent must not run.
    pub fn settled(&self, logstore: &str) -> BTreeMap<PathBuf, u64> {
        self.checkpoint(logstore).into_iter().map(|(_, path, offset)| (path, offset)).collect()
    }

    /// The settled offsets of a logstore's files, by their inodes. The agent must not run.
    pub fn settled_by_inode(&self, logstore: &str) -> BTreeMap<u64, u64> {
        self.checkpoint(logstore).into_iter().map(|(inode, _, offset)| (inode, offset)).collect()
    }

    /// The inode, path and settled offset of each file of a logstore. A copy is looked at: opening repairs what a kill
    /// left behind, and that is the agent's job. There must be nothing that cannot be repaired.
    fn checkpoint(&self, logstore: &str) -> Vec<(u64, PathBuf, u64)> {
        let file = self.path("data/checkpoint.redb");
        if !file.exists() {
            return Vec::new();
        }
        let copies = tempfile::tempdir_in(&self.dir).unwrap();
        let copy = copies.path().join("checkpoint.redb");
        fs::copy(file, &copy).unwrap();
        let positions = Checkpoint::open(&copy).unwrap().load(logstore).unwrap();
        let damaged =
            |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name().to_string_lossy().contains("damaged");
        assert!(!fs::read_dir(copies.path()).unwrap().any(damaged), "the checkpoint is damaged");
        positions.into_iter().map(|(id, position)| (id.inode, position.path.into(), position.place.offset)).collect()
    }

    /// Gzips a file, as rotation does: `a.log` becomes `a.log.gz`.
    pub fn gzip(&self, name: &str) {
        let status = Command::new("gzip").arg("-n").arg(self.path(name)).status().expect("there is no gzip");
        assert!(status.success(), "gzip {name}: {status}");
    }

    /// Renames a file.
    pub fn rename(&self, from: &str, to: &str) {
        fs::rename(self.path(from), self.path(to)).unwrap();
    }
}

/// What an agent counted for one logstore, by name.
pub type Accounts = BTreeMap<String, u64>;

/// What `--summary` writes.
#[derive(Default, Deserialize)]
struct Books {
    logstores: BTreeMap<String, LogstoreBooks>,
    projects: BTreeMap<String, Accounts>,
    sinks: BTreeMap<String, Accounts>,
}

#[derive(Deserialize)]
struct LogstoreBooks {
    plugins: Vec<Plugin>,
    #[serde(flatten)]
    counts: Accounts,
}

/// What was counted for one plugin.
#[derive(Clone, Debug, Deserialize)]
pub struct Plugin {
    pub name: String,
    #[serde(flatten)]
    pub counts: Accounts,
}

/// A command that has ended.
#[derive(Debug)]
pub struct Done {
    pub status: ExitStatus,
    pub stdout: Vec<u8>,
    pub stderr: String,
    /// The most bytes that were resident, as far as that was looked at: about every millisecond while weir settles what
    /// is there, and at the end of an agent that follows.
    pub peak: u64,
}

impl Done {
    /// Panics, with what it said, if it did not exit with that code.
    #[track_caller]
    pub fn assert_code(&self, code: i32) {
        assert_eq!(self.status.code(), Some(code), "{}; it said:\n{}", self.status, self.stderr);
    }

    /// Panics if standard error does not have the text.
    #[track_caller]
    pub fn assert_says(&self, text: &str) {
        assert!(self.stderr.contains(text), "it did not say {text:?}, but:\n{}", self.stderr);
    }

    /// Standard output, which is text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).unwrap()
    }
}

/// An agent that has ended, and its accounts by logstore, which keep the conservation law.
#[derive(Debug)]
pub struct Ran {
    pub done: Done,
    pub summary: BTreeMap<String, Accounts>,
    /// Of each logstore, in the order of its chain.
    pub plugins: BTreeMap<String, Vec<Plugin>>,
    pub projects: BTreeMap<String, Accounts>,
    /// Of those on the network.
    pub sinks: BTreeMap<String, Accounts>,
}

impl std::ops::Deref for Ran {
    type Target = Done;

    fn deref(&self) -> &Done {
        &self.done
    }
}

impl Ran {
    /// Panics if an event of any logstore is in flight.
    #[track_caller]
    pub fn assert_settled(&self) {
        for (name, accounts) in &self.summary {
            assert_eq!(accounts["in_flight"], 0, "the accounts of {name}: {accounts:?}");
        }
    }

    /// Panics if a logstore's events read, delivered, raw among these, and dropped are not so many.
    #[track_caller]
    pub fn assert_counts(&self, logstore: &str, [read, delivered, kept_raw, dropped]: [u64; 4]) {
        let accounts = self.summary.get(logstore).unwrap_or_else(|| panic!("no accounts of {logstore}: {self:?}"));
        let counts = ["read", "delivered", "kept_raw", "dropped"].map(|count| accounts[count]);
        assert_eq!(counts, [read, delivered, kept_raw, dropped], "[read, delivered, kept_raw, dropped] of {logstore}");
    }
}

/// An agent that runs. Dropped, it is killed.
pub struct Agent<'a> {
    site: &'a Site,
    child: Child,
    /// What was counted of each logstore's output.
    counted: HashMap<String, Lines>,
}

impl Agent<'_> {
    /// Waits until something is so. Panics if the agent ends before, or if it takes too long.
    #[track_caller]
    pub fn wait(&mut self, what: &str, mut is_so: impl FnMut(&Site) -> bool) {
        let begun = Instant::now();
        while !is_so(self.site) {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("the agent ended with {status} before {what}; it said:\n{}", self.stderr());
            }
            assert!(begun.elapsed() < DEADLINE, "no {what} after {DEADLINE:?}; the agent said:\n{}", self.stderr());
            thread::sleep(POLL);
        }
    }

    /// Waits until the sink `out` has so many lines of a logstore, or more.
    #[track_caller]
    pub fn wait_for_lines(&mut self, logstore: &str, count: usize) {
        let what = format!("{count} lines of {logstore}");
        let mut lines = self.counted.remove(logstore).unwrap_or_else(|| Lines::of(logstore));
        self.wait(&what, |site| lines.count(site) >= count);
        self.counted.insert(logstore.to_owned(), lines);
    }

    /// Waits until the agent has said a text on standard error.
    #[track_caller]
    pub fn wait_to_say(&mut self, text: &str) {
        let what = format!("{text:?} on standard error");
        self.wait(&what, |site| fs::read_to_string(site.path("stderr")).unwrap().contains(text));
    }

    /// Waits until the admin server listens. Gives where: an address and a port.
    #[track_caller]
    pub fn admin(&mut self) -> String {
        let listens = "the admin server listens address=";
        self.wait_to_say(listens);
        let said = self.stderr();
        let (_, rest) = said.split_once(listens).unwrap();
        rest.split_whitespace().next().unwrap().to_owned()
    }

    /// What the agent has said so far.
    pub fn stderr(&self) -> String {
        fs::read_to_string(self.site.path("stderr")).unwrap()
    }

    /// The number of the agent's process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks the agent to stop, and waits until it has. It exits with 0.
    #[track_caller]
    pub fn stop(self) -> Ran {
        self.signal(Signal::TERM);
        self.end()
    }

    /// Waits until the agent has come to its end. It exits with 0.
    #[track_caller]
    pub fn end(mut self) -> Ran {
        let peak = peak_memory(self.pid()).unwrap_or_default();
        let status = self.wait_for_end();
        let stdout = fs::read(self.site.path("stdout")).unwrap();
        let ran = self.site.ran(Done { status, stdout, stderr: self.stderr(), peak });
        ran.assert_code(0);
        ran
    }

    /// Ends the agent at once, wherever it is.
    pub fn kill(mut self) {
        self.signal(Signal::KILL);
        self.wait_for_end();
    }

    /// Memory of the process that is in RAM, in bytes.
    pub fn memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn wait_for_end(&mut self) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(begun.elapsed() < DEADLINE, "it does not stop; it said:\n{}", self.stderr());
            thread::sleep(POLL);
        }
    }
}

impl Drop for Agent<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Counts the lines that the sink `out` has of a logstore, each time only the new ones.
pub struct Lines {
    logstore: String,
    /// The offset after the last newline.
    end: u64,
    count: usize,
}

impl Lines {
    /// Those of a logstore, none of which is counted yet.
    pub fn of(logstore: &str) -> Lines {
        Lines { logstore: logstore.to_owned(), end: 0, count: 0 }
    }

    /// How many whole lines there are now.
    pub fn count(&mut self, site: &Site) -> usize {
        let new = site.ndjson_from(&self.logstore, self.end);
        self.count += new.iter().filter(|byte| **byte == b'\n').count();
        self.end += new.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline as u64 + 1);
        self.count
    }
}

/// NDJSON as values. Panics if a line is not whole.
pub fn parse(ndjson: &[u8]) -> Vec<Value> {
    each_line(ndjson, |event| event)
}

fn each_line<T: DeserializeOwned, U>(ndjson: &[u8], make: impl Fn(T) -> U) -> Vec<U> {
    let text = std::str::from_utf8(ndjson).expect("NDJSON is UTF-8");
    assert!(text.is_empty() || text.ends_with('\n'), "the last line has no end");
    text.lines().map(|line| make(serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))).collect()
}

/// The field `content` of each event.
pub fn contents(events: &[Value]) -> Vec<String> {
    let content = |event: &Value| event["content"].as_str().unwrap_or_else(|| panic!("no content: {event}")).to_owned();
    events.iter().map(content).collect()
}

/// The logstore `a/b`, which ships the raw lines of what is in `logs`. Its `files` has more keys than the root.
pub fn raw(files: &str) -> String {
    format!("- name: a/b\n  files: {{ root: logs, {files} }}\n  sink: out")
}

/// Does something on another thread until something else is done or has failed: then the flag is set.
pub fn beside<T: Send, U>(background: impl FnOnce(&AtomicBool) -> T + Send, act: impl FnOnce() -> U) -> (T, U) {
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        let other = scope.spawn(|| background(&is_done));
        let made = {
            let _end = SetAtEnd(&is_done);
            act()
        };
        (other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), made)
    })
}

/// Set also when a test fails: whoever looks at it would go on for ever.
struct SetAtEnd<'a>(&'a AtomicBool);

impl Drop for SetAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Lines `from`, `from + 1`, … as text.
pub fn numbers(range: std::ops::Range<u64>) -> String {
    range.map(|number| format!("{number}\n")).collect()
}

/// The same as [`numbers`], as what comes out.
pub fn numbered(range: std::ops::Range<u64>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

/// Unix nanoseconds.
pub fn now_ns() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as i64
}

/// nginx's log lines, always the same.
pub fn access_log(count: u64) -> Vec<u8> {
    let mut generator = weir::mock::Generator::new(weir::mock::LogType::Nginx, 1);
    let mut log = Vec::new();
    (0..count).for_each(|_| generator.next(&mut log));
    log
}

/// The repository.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// The binary under test.
pub fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_weir"))
}

/// The directory with the plugins.
pub fn plugins() -> &'static Path {
    static PLUGIN_DIR: OnceLock<PathBuf> = OnceLock::new();
    PLUGIN_DIR.get_or_init(|| {
        let dir = std::env::var_os("WEIR_TEST_PLUGINS").map(PathBuf::from);
        let dir = dir.unwrap_or_else(|| cache_home().with_file_name("plugins"));
        for name in PLUGINS {
            let path = dir.join(format!("{name}.wasm"));
            assert!(path.is_file(), "there is no {}: run `make plugins` first", path.display());
        }
        dir
    })
}

/// Where commands without a `data_dir` keep what they compile: `target/tmp`.
pub fn cache_home() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}

/// The directory where all plugins are, compiled.
fn compiled_plugins() -> PathBuf {
    static COMPILED: OnceLock<()> = OnceLock::new();
    COMPILED.get_or_init(|| {
        for name in PLUGINS {
            // It need not accept the settings to be compiled.
            let mut command = Command::new(binary());
            command.args(["pipe", "--plugin", name]).env("XDG_CACHE_HOME", cache_home());
            command.env("WEIR_PLUGIN_DIR", plugins()).stdin(Stdio::null()).output().unwrap();
        }
    });
    cache_home().join("weir")
}

/// The most bytes of a running process that were ever resident. Not by `wait4`, which also counts what the process was
/// before it became weir: a copy of this one.
fn peak_memory(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let exe = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    (exe == binary()).then_some(kilobytes << 10)
}

fn done(output: Output) -> Done {
    let Output { status, stdout, stderr } = output;
    Done { status, stdout, stderr: String::from_utf8_lossy(&stderr).into_owned(), peak: 0 }
}
