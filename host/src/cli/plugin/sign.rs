//! `weir plugin keygen`, `sign` and `verify`: who has made a plugin.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::versions::save;
use crate::cli::screen::print;
use crate::sandbox::limits::COMPONENT_BYTES;
use crate::signing::{PublicKey, Signature, SigningKey};

/// Make a pair of keys to sign plugins with
///
/// PREFIX.key is the private one, which nobody else should see: it is not encrypted, and only its owner can read it.
/// PREFIX.pub goes to those who check signatures. Files that are there are not replaced.
#[derive(clap::Args)]
pub struct Keygen {
    /// How the files' names begin
    #[arg(value_name = "PREFIX", default_value = "cosign")]
    prefix: PathBuf,
}

/// Sign a plugin
///
/// With a private key by `weir plugin keygen`, or by `openssl`: ECDSA on P-256. The signature is the one that
/// `cosign sign-blob --key` would make.
#[derive(clap::Args)]
pub struct Sign {
    /// The private key
    #[arg(long, value_name = "KEY")]
    key: PathBuf,
    /// The plugin
    #[arg(value_name = "FILE.wasm")]
    file: PathBuf,
    /// Where the signature is written to [default: FILE.wasm.sig]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Check a plugin's signature
///
/// Exits with 70 if the key has not signed it.
#[derive(clap::Args)]
pub struct Verify {
    /// The public key
    #[arg(long, value_name = "PUB")]
    key: PathBuf,
    /// The plugin
    #[arg(value_name = "FILE.wasm")]
    file: PathBuf,
    /// The signature [default: FILE.wasm.sig]
    #[arg(long, value_name = "FILE")]
    signature: Option<PathBuf>,
}

pub fn keygen(args: &Keygen) -> Result<()> {
    let (private, public) = (with_suffix(&args.prefix, ".key"), with_suffix(&args.prefix, ".pub"));
    ensure!(!public.exists(), "{} is there already, and is not replaced", public.display());
    let key = SigningKey::generate();
    write_new(&private, 0o600, key.to_pem()?.as_ref())?;
    write_new(&public, 0o644, &key.public().to_pem()?)?;
    print(&format!(
        "{}: the private key, to sign with\n{}: the public key, sha256:{}\n",
        private.display(),
        public.display(),
        key.public().fingerprint()
    ))
}

fn write_new(path: &Path, mode: u32, text: &str) -> Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(mode).open(path) {
        Ok(mut file) => file.write_all(text.as_bytes()).with_context(|| format!("writing {}", path.display())),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            bail!("{} is there already, and is not replaced", path.display())
        }
        Err(error) => Err(error).with_context(|| format!("writing {}", path.display())),
    }
}

pub fn sign(args: &Sign) -> Result<()> {
    let key = SigningKey::read(&args.key)?;
    let signature = key.sign(&read(&args.file)?)?;
    let output = args.output.clone().unwrap_or_else(|| signature_beside(&args.file));
    save(&output, format!("{signature}\n").as_bytes()).with_context(|| format!("writing {}", output.display()))?;
    print(&format!("{}: by the key sha256:{}\n", output.display(), key.public().fingerprint()))
}

pub fn verify(args: &Verify) -> Result<()> {
    let key = PublicKey::read(&args.key)?;
    let path = args.signature.clone().unwrap_or_else(|| signature_beside(&args.file));
    let signature = Signature::read(&path)?;
    let (file, name) = (args.file.display(), args.key.display());
    ensure!(
        key.has_signed(&read(&args.file)?, &signature),
        "{name} has not signed {file}: {} is by another key, or of another file",
        path.display()
    );
    print(&format!("{file}: signed by {name}, sha256:{}\n", key.fingerprint()))
}

/// Where the signature of a file is looked for.
pub fn signature_beside(file: &Path) -> PathBuf {
    with_suffix(file, ".sig")
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let describe = || format!("reading the plugin {}", path.display());
    let size = fs::metadata(path).with_context(describe)?.len();
    ensure!(size <= COMPONENT_BYTES, "{} has more than {COMPONENT_BYTES} bytes: no agent takes it", path.display());
    fs::read(path).with_context(describe)
}
