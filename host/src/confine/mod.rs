//! The agent's own process, confined to what its configuration needs.
//!
//! ```text
//! Config ── needs ──> Needs ──┬─> rules (Landlock): files, TCP ports, signals ──┐
//!                             └─> capabilities ─────────────────────────────────┴─> Report
//! ```
//!
//! All of it belongs to the thread that asks for it and to what that thread starts. So the agent confines itself when
//! it has read its configuration and has no other thread yet, and before it looks at anything that a tenant made.
//! Nothing of it can be taken back.

mod capabilities;
mod needs;
mod rules;
#[cfg(test)]
mod tests;

use std::fmt;

use serde::Serialize;

pub use needs::Needs;

/// What a process is confined to, and what not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The version of Landlock that is in force; none without Landlock.
    pub landlock_abi: Option<u32>,
    /// What Landlock confines.
    pub confined: Vec<Realm>,
    /// Capabilities that are left, in lower case and without `cap_`.
    pub capabilities: Vec<String>,
    /// Whether no program that it starts can have more privileges than it has.
    pub no_new_privileges: bool,
    /// What should be confined and is not, and why.
    pub gaps: Vec<String>,
}

/// What can be confined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Realm {
    /// Opening, making and deleting files.
    Files,
    /// Cutting files off.
    Truncation,
    /// Connections and listeners of TCP.
    Tcp,
    /// Signals to other processes, and abstract Unix sockets of theirs.
    Processes,
}

impl Realm {
    /// All, with the version of Landlock that has it and the Linux that has that.
    const ALL: [(Realm, u32, &str); 4] = [
        (Realm::Files, 1, "5.13"),
        (Realm::Truncation, 3, "6.2"),
        (Realm::Tcp, 4, "6.7"),
        (Realm::Processes, 6, "6.12"),
    ];
}

impl fmt::Display for Realm {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Realm::Files => "files",
            Realm::Truncation => "truncation",
            Realm::Tcp => "TCP",
            Realm::Processes => "signals and abstract sockets",
        })
    }
}

/// Confines this thread, and all that it starts from now on, as far as the kernel can.
pub fn confine(needs: &Needs) -> Report {
    let mut report = Report { gaps: needs.gaps.clone(), ..Report::default() };
    match capabilities::keep(needs.capabilities()) {
        Ok(kept) => report.capabilities = kept,
        Err(error) => report.gaps.push(format!("capabilities: {error}")),
    }
    report.forbid_new_privileges();
    match rules::restrict(needs) {
        Ok(abi) => report.add_landlock(abi),
        Err(error) => report.gaps.push(format!("files, TCP and signals: {error:#}")),
    }
    report
}

/// Confines this thread to the files that it has open, and to nothing else.
pub fn lock_up() -> Report {
    confine(&Needs::default())
}

impl Report {
    fn forbid_new_privileges(&mut self) {
        match rustix::thread::set_no_new_privs(true) {
            Ok(()) => self.no_new_privileges = true,
            Err(error) => self.gaps.push(format!("privileges of started programs: {error}")),
        }
    }

    fn add_landlock(&mut self, abi: u32) {
        self.landlock_abi = (abi > 0).then_some(abi);
        let (confined, lacking): (Vec<_>, Vec<_>) = Realm::ALL.into_iter().partition(|(_, since, _)| *since <= abi);
        self.confined = confined.into_iter().map(|(realm, ..)| realm).collect();
        let Some((_, since, linux)) = lacking.last() else { return };
        let lacking = list(lacking.iter().map(|(realm, ..)| realm));
        self.gaps.push(match abi {
            0 => format!("{lacking}: this kernel has no Landlock, or it is turned off"),
            _ => format!("{lacking}: this kernel's Landlock has ABI {abi}, and {since} is needed, of Linux {linux}"),
        });
    }
}

fn list(of: impl Iterator<Item = impl ToString>) -> String {
    of.map(|one| one.to_string()).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        if let Some(abi) = self.landlock_abi {
            write!(f, "{} by Landlock (ABI {abi}), ", list(self.confined.iter()))?;
        }
        let kept = if self.capabilities.is_empty() { "none".to_owned() } else { list(self.capabilities.iter()) };
        write!(f, "capabilities: {kept}")?;
        if self.no_new_privileges {
            f.write_str(", no new privileges")?;
        }
        if !self.gaps.is_empty() {
            write!(f, "; not confined: {}", self.gaps.join("; "))?;
        }
        Ok(())
    }
}
