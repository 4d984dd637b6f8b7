//! The agent, in a directory of its own, and what it counted.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;

/// A directory with logs and outputs, gone when it is dropped.
pub struct Site {
    dir: tempfile::TempDir,
    /// Shared by all runs: it keeps the compiled plugins.
    data: PathBuf,
    /// The attacker's files, which are made once.
    pub noisy: PathBuf,
    weir: PathBuf,
    plugins: PathBuf,
}

/// An agent that runs.
pub struct Agent {
    /// Not here when it has ended.
    child: Option<Child>,
    summary: PathBuf,
    log: PathBuf,
}

/// What it counted, and what it cost.
pub struct Ended {
    pub logstores: BTreeMap<String, Counts>,
    pub peak_bytes: u64,
}

/// Of one logstore, in events, bytes, and nanoseconds.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub struct Counts {
    pub read: u64,
    pub delivered: u64,
    pub dropped: u64,
    pub discarded: u64,
    pub in_flight: u64,
    pub kept_raw: u64,
    pub bytes_read: u64,
    pub cpu: u64,
}

#[derive(Deserialize)]
struct Summary {
    logstores: BTreeMap<String, Counts>,
}

impl Site {
    pub fn new(dir: &Path, weir: &Path, plugins: &Path) -> anyhow::Result<Site> {
        let absolute = |path: &Path| path.canonicalize().with_context(|| format!("cannot find {}", path.display()));
        let (dir, weir, plugins) = (absolute(dir)?, absolute(weir)?, absolute(plugins)?);
        let data = dir.join("data");
        for file in ["checkpoint.redb", "checkpoint.backup"] {
            let _ = fs::remove_file(data.join(file));
        }
        let noisy = dir.join("noisy");
        fs::create_dir_all(&noisy)?;
        Ok(Site { data, noisy, dir: tempfile::Builder::new().prefix("run-").tempdir_in(dir)?, weir, plugins })
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn weir(&self) -> Command {
        Command::new(&self.weir)
    }

    pub fn plugin(&self, name: &str) -> PathBuf {
        self.plugins.join(format!("{name}.wasm"))
    }

    /// Starts an agent with the victim's logstore and others, and waits until it runs.
    pub fn start(&self, projects: &str, logstores: &str) -> anyhow::Result<Agent> {
        let dir = self.dir.path();
        let config = format!(
            "data_dir: {:?}
plugin_dirs: [{:?}]
workers: 1
projects:
  victim: {{ share: 1 }}
{projects}
logstores:
  - name: victim/access
    files: {{ root: {:?} }}
    plugins: [{{ use: nginx, settings: {{ format: main }} }}]
    sink: out
{logstores}
sinks:
  out: {{ type: file, path: \"{}/out/{{project}}/{{logstore}}.ndjson\" }}
  nowhere: {{ type: blackhole }}
  stuck: {{ type: stdout }}
",
            self.data,
            self.plugins,
            dir.join("victim"),
            dir.display(),
        );
        fs::write(dir.join("weir.yaml"), config)?;
        let (summary, log) = (dir.join("summary.json"), dir.join("log"));
        let child = self
            .weir()
            .args(["run", "-c", "weir.yaml", "--summary", "summary.json"])
            .current_dir(dir)
            .stdin(Stdio::null())
            // Nobody reads it: the sink `stuck` has a pipe that is full.
            .stdout(Stdio::piped())
            .stderr(File::create(&log)?)
            .spawn()
            .context("cannot start weir")?;
        let agent = Agent { child: Some(child), summary, log };
        let deadline = Instant::now() + Duration::from_secs(120);
        while !fs::read_to_string(&agent.log)?.contains("running") {
            ensure!(Instant::now() < deadline, "it does not start:\n{}", agent.said());
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(agent)
    }
}

impl Agent {
    /// Ends it, and checks its accounts.
    pub fn stop(mut self) -> anyhow::Result<Ended> {
        let child = self.child.take().context("it has ended")?;
        let peak_bytes = peak(child.id()).unwrap_or_default();
        kill_process(Pid::from_child(&child), Signal::TERM)?;
        // It waits for the sink that is stuck, but not for ever.
        let status = child.wait_with_output()?.status;
        ensure!(status.success(), "{status}:\n{}", self.said());
        let text = fs::read_to_string(&self.summary).with_context(|| format!("no summary; {}", self.said()))?;
        let Summary { logstores } = serde_json::from_str(&text)?;
        for (name, counts) in &logstores {
            let Counts { read, delivered, dropped, discarded, in_flight, .. } = *counts;
            ensure!(read == delivered + dropped + discarded + in_flight, "the accounts of {name}: {counts:?}");
        }
        Ok(Ended { logstores, peak_bytes })
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

/// Bytes that the process had resident at most.
fn peak(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let kib = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"))?;
    Some(kib.parse::<u64>().ok()? << 10)
}

impl Drop for Agent {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
