//! rsyslog: the yardstick. It is in every distribution, and it is fast.
//!
//! Its settings are the best that were found for these jobs, in MB per CPU second: large submits, large unflushed
//! writes, JSON without spaces. It runs once with the main queue that it has if its configuration says nothing of
//! one, and once without queues, so that one thread does everything.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::check::{self, Time};
use crate::corpus::{Corpus, Kind};
use crate::job::Job;
use crate::measure::{self, Sample};

/// How often to look whether it goes on: the error of the wall time.
const LOOK: Duration = Duration::from_millis(10);

/// It has finished when it has read all and shows no progress for so long. This is not counted as wall time.
const QUIET: Duration = Duration::from_millis(600);

/// It has failed when it has not read all and shows no progress for so long.
const STUCK: Duration = Duration::from_secs(30);

/// How long to wait for its own account to be complete. It gives one every second.
const STATISTICS: Duration = Duration::from_secs(3);

/// For liblognorm: nginx's format `main`.
const RULES: &str = concat!(
    "version=2\n",
    r#"rule=:%remote_addr:word% - %remote_user:word% [%time_local:char-to:]%] "#,
    r#""%request_method:word% %request_uri:word% %server_protocol:char-to:"%" "#,
    r#"%status:number% %body_bytes_sent:number% "#,
    r#""%http_referer:char-to:"%" "%http_user_agent:char-to:"%" "%http_x_forwarded_for:char-to:"%""#,
    "\n",
);

/// What is between its input and its output.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Queue {
    /// The main queue, in memory, with one thread behind it: by default it has two, and events change places.
    Default,
    /// None.
    Direct,
}

/// The program.
pub struct Rsyslog {
    program: &'static str,
    dir: PathBuf,
}

impl Rsyslog {
    /// Looks where it may be installed; /usr/sbin is not on every user's path.
    pub fn find(dir: &Path) -> Option<Rsyslog> {
        let works = |program: &&str| {
            let silent = Command::new(program).arg("-v").stdout(Stdio::null()).stderr(Stdio::null()).status();
            silent.is_ok_and(|status| status.success())
        };
        ["rsyslogd", "/usr/sbin/rsyslogd"]
            .into_iter()
            .find(works)
            .map(|program| Rsyslog { program, dir: dir.to_owned() })
    }

    /// Runs a job from a clean state. A wrong output is noted in the sample; an error if it does not run at all.
    pub fn run(&self, job: Job, corpus: &Corpus, queue: Queue) -> anyhow::Result<Sample> {
        let run = tempfile::Builder::new().prefix("rsyslog-").tempdir_in(&self.dir)?;
        let files = Files::new(run.path(), job)?;
        fs::write(&files.rules, RULES)?;
        fs::write(&files.config, files.text(job, corpus, queue))?;

        let start = Instant::now();
        let child = Command::new(self.program)
            .args(["-n".as_ref(), "-f".as_ref(), files.config.as_os_str(), "-i".as_ref(), files.pid.as_os_str()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&files.stderr)?)
            .spawn()?;
        let finished = files.until_quiet(&child, start, corpus);
        // It keeps the last event of a joined log back until another begins.
        let expected = corpus.events - u64::from(corpus.kind == Kind::Java);
        let finished = finished.map(|wall| (wall, files.processed(expected)));
        kill_process(Pid::from_child(&child), Signal::TERM)?;
        let ended = measure::wait(child, start);
        let (wall, processed) = finished.with_context(|| fs::read_to_string(&files.stderr).unwrap_or_default())?;
        let (_, usage) = ended?;

        let checked = match job.has_output() {
            true => check::ndjson(job, corpus, &files.output, expected, Time::Ignored),
            false => Ok(()),
        };
        let mut sample = Sample::new(corpus.bytes, corpus.events, processed, wall, usage);
        sample.flaw = match checked {
            _ if processed != expected => Some(format!("rsyslog wrote {processed} events instead of {expected}")),
            Err(wrong) => Some(format!("rsyslog: {wrong:#}")),
            Ok(()) => None,
        };
        Ok(sample)
    }
}

/// What a run works with.
struct Files {
    dir: PathBuf,
    config: PathBuf,
    rules: PathBuf,
    pid: PathBuf,
    stats: PathBuf,
    stderr: PathBuf,
    /// A file, or /dev/null.
    output: PathBuf,
}

impl Files {
    fn new(dir: &Path, job: Job) -> anyhow::Result<Files> {
        let dir = dir.canonicalize()?;
        let [config, rules, pid, stats, stderr] =
            ["conf", "rules", "pid", "stats", "stderr"].map(|name| dir.join(name));
        let output = if job.has_output() { dir.join("out.ndjson") } else { PathBuf::from("/dev/null") };
        Ok(Files { dir, config, rules, pid, stats, stderr, output })
    }

    fn text(&self, job: Job, corpus: &Corpus, queue: Queue) -> String {
        let (main_queue, ruleset_queue) = match queue {
            Queue::Default => ("main_queue(queue.workerThreads=\"1\")", ""),
            Queue::Direct => ("main_queue(queue.type=\"Direct\")", "queue.type=\"Direct\""),
        };
        let Files { dir, rules, stats, output, .. } = self;
        let (load, parse) = match job {
            Job::Nginx => (
                "module(load=\"mmnormalize\")",
                format!("action(type=\"mmnormalize\" rulebase={rules:?} useRawMsg=\"on\")"),
            ),
            Job::Json => {
                ("module(load=\"mmjsonparse\")", "action(type=\"mmjsonparse\" cookie=\"\" useRawMsg=\"on\")".to_owned())
            }
            _ => ("", String::new()),
        };
        let template = match job {
            Job::Nginx | Job::Json => r#"type="string" string="%$!all-json-plain%\n")"#,
            Job::Join => {
                r#"type="list" option.jsonf="on") { property(outname="content" name="rawmsg" format="jsonf") }"#
            }
            _ => r#"type="string" string="%rawmsg%\n")"#,
        };
        let join = if job == Job::Join { r#"startmsg.regex="^[0-9]{4}-[0-9]{2}-[0-9]{2} ""# } else { "" };
        let input = &corpus.path;
        format!(
            r#"global(workDirectory={dir:?} maxMessageSize="64k" parser.escapeControlCharactersOnReceive="off")
{main_queue}
module(load="imfile" mode="inotify")
module(load="impstats" interval="1" format="json" log.file={stats:?} log.syslog="off")
{load}
template(name="event" {template}
input(type="imfile" file={input:?} tag="bench" ruleset="bench" freshStartTail="off" addMetadata="off"
      escapeLF="off" maxSubmitAtOnce="4096" persistStateInterval="0" {join})
ruleset(name="bench" {ruleset_queue}) {{
  {parse}
  action(name="sink" type="omfile" file={output:?} template="event" ioBufferSize="256k" flushOnTXEnd="off")
}}
"#
        )
    }

    /// Waits until all is read and nothing moves any more; gives the time until the last move.
    fn until_quiet(&self, child: &Child, start: Instant, corpus: &Corpus) -> anyhow::Result<Duration> {
        let (mut last, mut last_move) = (0, start);
        loop {
            let (is_alive, ticks) = look(child.id())?;
            ensure!(is_alive, "rsyslogd ended early");
            let progress = match fs::metadata(&self.output) {
                Ok(output) if output.is_file() => output.len(),
                // The statistics, once a second, must not look like work: they take less than two ticks.
                Ok(_) => ticks / 2,
                Err(_) => 0,
            };
            if progress > last {
                (last, last_move) = (progress, Instant::now());
            }
            let has_read_all = bytes_read(child.id())? >= corpus.bytes;
            match last_move.elapsed() {
                quiet if quiet >= QUIET && has_read_all => return Ok(last_move - start),
                quiet => ensure!(quiet < STUCK, "rsyslogd is stuck"),
            }
            thread::sleep(LOOK);
        }
    }

    /// How many events the sink has taken by its own account, which it gives once a second.
    fn processed(&self, expected: u64) -> u64 {
        let give_up = Instant::now() + STATISTICS;
        loop {
            let count = self.last_count().unwrap_or(0);
            if count == expected || Instant::now() > give_up {
                return count;
            }
            thread::sleep(LOOK);
        }
    }

    fn last_count(&self) -> Option<u64> {
        let stats = fs::read_to_string(&self.stats).ok()?;
        let line = stats.lines().rfind(|line| line.contains(r#""name": "sink""#))?;
        let (_, count) = line.split_once(r#""processed": "#)?;
        count.split_once(',')?.0.parse().ok()
    }
}

/// From /proc: whether the process still runs, and its CPU time in ticks of 10 ms.
fn look(pid: u32) -> anyhow::Result<(bool, u64)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name, in parentheses, is the only part that may have spaces. State, …, utime and stime follow.
    let (_, rest) = stat.rsplit_once(") ").context("no name in /proc")?;
    let fields: Vec<&str> = rest.split(' ').collect();
    let [state, .., user, sys] = fields.get(..13).context("/proc is not as expected")? else {
        bail!("no times in /proc")
    };
    Ok((*state != "Z", user.parse::<u64>()? + sys.parse::<u64>()?))
}

/// Bytes that the process has read, from /proc.
fn bytes_read(pid: u32) -> anyhow::Result<u64> {
    let io = fs::read_to_string(format!("/proc/{pid}/io"))?;
    let bytes = io.lines().find_map(|line| line.strip_prefix("rchar: ")).context("no rchar in /proc")?;
    Ok(bytes.parse()?)
}
