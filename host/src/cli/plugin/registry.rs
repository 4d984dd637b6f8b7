//! What `push` and `pull` share: which registry, who asks it, and how far it is.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use tokio::runtime::Runtime;

use super::progress::Progress;
use crate::oci::{self, Access, Credentials, Pulled, Reference, Repository};
use crate::sandbox::admission::Admitted;
use crate::signing::{PublicKey, Signature, SigningKey};

/// What these options are for.
pub const HEADING: &str = "For a registry";

/// How a registry is reached, and who asks it.
#[derive(clap::Args)]
pub struct Registry {
    /// Who asks the registry [env: WEIR_REGISTRY_USERNAME] [default: as `docker login` has it]
    #[arg(long, value_name = "NAME", requires = "password_file", help_heading = HEADING)]
    username: Option<String>,
    /// A file with the password, or the token in place of one, in it [env: WEIR_REGISTRY_PASSWORD, the password itself]
    #[arg(long, value_name = "FILE", requires = "username", help_heading = HEADING)]
    password_file: Option<PathBuf>,
    /// Ask the registry without TLS, as is done anyhow if it is on this machine and no certificate is given
    #[arg(long, help_heading = HEADING)]
    plain_http: bool,
}

impl Registry {
    /// How that one is reached, whose certificate is signed by that of the file.
    pub fn access(&self, reference: &Reference, ca: Option<&Path>) -> Result<Access> {
        let credentials = Credentials::find(&reference.host, self.username.as_deref(), self.password_file.as_deref())?;
        Ok(Access { credentials, is_plain: self.plain_http, ca: ca.map(Path::to_owned) })
    }
}

/// Puts a plugin there. Gives its reference by digest.
pub fn push(
    reference: &Reference,
    access: Access,
    plugin: &Admitted,
    signature: Option<&Signature>,
    key: Option<&SigningKey>,
) -> Result<Reference> {
    let progress = Progress::new("pushing", "pushed; the registry keeps it …");
    let mut repository = Repository::to_push(reference, access)?;
    let told = told(&progress);
    let pushed = runtime()?.block_on(oci::push(&mut repository, reference, plugin, signature, key, &told));
    progress.end();
    pushed
}

/// Gets a plugin from there.
pub fn pull(reference: &Reference, access: Access, key: Option<&PublicKey>) -> Result<Pulled> {
    let progress = Progress::new("pulling", "pulled");
    let mut repository = Repository::to_pull(reference, access)?;
    let told = told(&progress);
    let pulled = runtime()?.block_on(oci::pull(&mut repository, reference, key, &told));
    progress.end();
    pulled
}

fn told(progress: &Progress) -> oci::Told {
    let progress = progress.clone();
    Arc::new(move |some, all| progress.tell(some, all))
}

fn runtime() -> Result<Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}
