//! `weir plugin pull`: a plugin from a registry.

use std::fs;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::registry::{self, Registry};
use super::sign::signature_beside;
use super::versions::save;
use crate::cli::Usage;
use crate::cli::screen::{on_one_line, print, print_json};
use crate::oci::Reference;
use crate::registry::hex_digest;
use crate::signing::PublicKey;

/// Get a plugin from a registry
///
/// What comes is what its digest says, with --key also what the key has signed, and passes the checks of an agent that need
/// no compiling; or else nothing is written. The signature of the .wasm that was pushed with it, if there is one, is
/// written beside it, as FILE.sig.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    registry: Registry,
    /// Which one; without a tag and a digest, that of the tag `latest`
    #[arg(value_name = "oci://REGISTRY/REPOSITORY[:TAG][@sha256:DIGEST]")]
    reference: Reference,
    /// Where to; - is standard output [default: the last part of the repository's name, with .wasm]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The public key that must have signed it, as `push --sign-key` and `cosign sign --key` do it
    #[arg(long, value_name = "PUB")]
    key: Option<PathBuf>,
    /// PEM file of who signs the registry's certificate [default: those that this machine trusts]
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// What has been pulled, as JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<()> {
    let is_to_stdout = args.output.as_deref() == Some(Path::new("-"));
    if is_to_stdout && io::stdout().is_terminal() {
        return Err(Usage("a .wasm is not for a terminal: give -o FILE".to_owned()).into());
    }
    if is_to_stdout && args.json {
        return Err(Usage("standard output has room for the plugin or for JSON: give -o FILE".to_owned()).into());
    }
    let key = args.key.as_deref().map(PublicKey::read).transpose()?;
    let access = args.registry.access(&args.reference, args.ca.as_deref())?;
    let pulled = registry::pull(&args.reference, access, key.as_ref())?;
    if is_to_stdout {
        return Ok(io::stdout().write_all(&pulled.bytes)?);
    }
    let file = args.output.clone().unwrap_or_else(|| format!("{}.wasm", args.reference.name()).into());
    let writing = |file: &Path| format!("writing {}", file.display());
    let beside = signature_beside(&file);
    save(&file, &pulled.bytes).with_context(|| writing(&file))?;
    match &pulled.signature {
        Some(signature) => save(&beside, format!("{signature}\n").as_bytes()).with_context(|| writing(&beside))?,
        // One that is there is of what was there before.
        None => match fs::remove_file(&beside) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error).with_context(|| writing(&beside)),
            _ => {}
        },
    }
    let (metadata, reference) = (&pulled.metadata, &pulled.reference);
    match args.json {
        true => print_json(&serde_json::json!({
            "file": file,
            "reference": reference.to_string(),
            "digest": reference.digest,
            "plugin": format!("sha256:{}", hex_digest(&pulled.bytes)),
            "size": pulled.bytes.len(),
            "name": metadata.name,
            "version": metadata.version,
        })),
        false => {
            let own = on_one_line(&format!("{} {}", metadata.name, metadata.version));
            print(&format!("{}: {own}, {reference}\n", file.display()))
        }
    }
}
