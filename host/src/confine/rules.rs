//! Landlock: which files, ports and processes can be reached.
//!
//! A rule is tied to a directory, not to its name: one that is deleted and made again, or covered by a mount, is
//! another directory.

use std::collections::BTreeSet;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use anyhow::{Context, Result};
use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, LandlockStatus, NetPort, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreated, RulesetCreatedAttr, Scope, make_bitflags,
};

use super::Needs;

/// The newest version that this was tested with. What later ones confine besides is left alone.
const NEWEST: ABI = ABI::V7;

/// Logs and plugins.
const READ: BitFlags<AccessFs> = make_bitflags!(AccessFs::{ReadFile | ReadDir});
/// The agent's own program, which compiles plugins, and its libraries.
const RUN: BitFlags<AccessFs> = make_bitflags!(AccessFs::{ReadFile | Execute});
/// What sinks write.
const WRITE: BitFlags<AccessFs> = make_bitflags!(AccessFs::{ReadFile | WriteFile | Truncate | MakeReg | MakeDir});
/// What sinks write and rotate.
const ROTATE: BitFlags<AccessFs> = make_bitflags!(AccessFs::{
    ReadFile | ReadDir | WriteFile | Truncate | MakeReg | MakeDir | RemoveFile
});
/// The agent's own files.
const OWN: BitFlags<AccessFs> = make_bitflags!(AccessFs::{
    ReadFile | ReadDir | WriteFile | Truncate | MakeReg | MakeDir | RemoveFile | RemoveDir | Refer
});

/// Restricts this thread. Gives the version of Landlock that is in force; 0 if there is none.
pub fn restrict(needs: &Needs) -> Result<u32> {
    let mut ruleset = Ruleset::default()
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(if needs.connects_anywhere { AccessNet::BindTcp.into() } else { AccessNet::from_all(NEWEST) })?
        .scope(Scope::from_all(NEWEST))?
        .create()?;
    let granted =
        [(&needs.read, READ), (&needs.run, RUN), (&needs.write, WRITE), (&needs.rotate, ROTATE), (&needs.own, OWN)];
    for (paths, access) in granted {
        for path in paths {
            grant(&mut ruleset, path, access)?;
        }
    }
    let ports = |ports: &BTreeSet<u16>, access: AccessNet| {
        ports.iter().map(move |port| Ok(NetPort::new(*port, access))).collect::<Vec<Result<_>>>()
    };
    let connect = if needs.connects_anywhere { &BTreeSet::new() } else { &needs.connect };
    let status = ruleset
        .add_rules(ports(connect, AccessNet::ConnectTcp))?
        .add_rules(ports(&needs.listen, AccessNet::BindTcp))?
        .restrict_self()?;
    Ok(match status.landlock {
        LandlockStatus::Available { effective_abi, .. } => effective_abi.min(NEWEST) as u32,
        _ => 0,
    })
}

fn grant(ruleset: &mut RulesetCreated, path: &Path, access: BitFlags<AccessFs>) -> Result<()> {
    // What can't be found or reached now can't be used either.
    let (Ok(opened), Ok(meta)) = (PathFd::new(path), path.metadata()) else { return Ok(()) };
    let possible = if meta.is_dir() { AccessFs::from_all(NEWEST) } else { AccessFs::from_file(NEWEST) };
    match ruleset.add_rule(PathBeneath::new(opened, access & possible)) {
        // There are no rules for pipes, and no restrictions.
        Err(_) if meta.file_type().is_fifo() => Ok(()),
        added => Ok(added.map(drop).with_context(|| format!("granting {}", path.display()))?),
    }
}
