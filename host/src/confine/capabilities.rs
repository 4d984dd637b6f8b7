//! Capabilities: what is left of root.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities,
};

/// What is kept of this thread's capabilities, if it has it.
#[derive(Clone, Copy)]
pub enum Keep<'a> {
    /// Nothing.
    Nothing,
    /// Reading whatever the owner; and writing whatever the owner, if one of these files or directories needs it.
    Reading(&'a BTreeSet<PathBuf>),
}

/// Drops all others, for good. Gives the names of those that are left.
pub fn keep(what: Keep) -> io::Result<Vec<String>> {
    let own = capabilities(None)?;
    let wanted = match what {
        Keep::Nothing => CapabilitySet::empty(),
        Keep::Reading(written) if needs_override(own, written)? => {
            CapabilitySet::DAC_READ_SEARCH | CapabilitySet::DAC_OVERRIDE
        }
        Keep::Reading(_) => CapabilitySet::DAC_READ_SEARCH,
    };
    let kept = own.permitted & wanted;
    // Without this capability nothing can be dropped there, and nothing be gained from it either: see
    // no_new_privs.
    if own.effective.contains(CapabilitySet::SETPCAP) {
        bound(kept)?;
    }
    match clear_ambient_capability_set() {
        // Before Linux 4.3 there is none.
        Err(Errno::INVAL) => {}
        cleared => cleared?,
    }
    set_capabilities(None, CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() })?;
    Ok(kept.iter_names().map(|(name, _)| name.to_ascii_lowercase()).collect())
}

/// What a program that is started may ever get.
fn bound(kept: CapabilitySet) -> io::Result<()> {
    // The kernel may know more of them than we do.
    for one in (0..u64::BITS).map(|number| CapabilitySet::from_bits_retain(1 << number)) {
        match capability_is_in_bounding_set(one) {
            Err(Errno::INVAL) => break,
            Ok(true) if !kept.contains(one) => remove_capability_from_bounding_set(one)?,
            _ => {}
        }
    }
    Ok(())
}

/// Whether something cannot be written to without `CAP_DAC_OVERRIDE`, which is found out by doing without.
fn needs_override(own: CapabilitySets, written: &BTreeSet<PathBuf>) -> io::Result<bool> {
    if !own.effective.contains(CapabilitySet::DAC_OVERRIDE) {
        return Ok(false);
    }
    set_capabilities(None, CapabilitySets { effective: own.effective - CapabilitySet::DAC_OVERRIDE, ..own })?;
    let is_denied = written.iter().any(|path| is_denied(path));
    set_capabilities(None, own)?;
    Ok(is_denied)
}

fn is_denied(path: &Path) -> bool {
    let tried = match path.is_dir() {
        true => tempfile::tempfile_in(path).map(drop),
        false if path.is_file() => OpenOptions::new().append(true).open(path).map(drop),
        // A pipe would be waited for, and what is not there is no reason.
        false => Ok(()),
    };
    tried.is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
}
