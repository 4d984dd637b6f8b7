//! Which configuration a command is about.

use std::path::PathBuf;

use crate::config::{self, ConfigErrors, Loaded, Reach};
use crate::environment::{self, CONFIG};

/// Where the configuration is if nobody says so.
const DEFAULT: &str = "/etc/weir/weir.yaml";

/// The configuration's path, by an argument or by the environment.
#[derive(clap::Args)]
pub struct ConfigFile {
    /// The configuration [env: WEIR_CONFIG] [default: /etc/weir/weir.yaml]
    #[arg(short, long = "config", value_name = "FILE")]
    config: Option<PathBuf>,
}

impl ConfigFile {
    /// Its path.
    pub fn path(&self) -> PathBuf {
        let named = || CONFIG.of(&environment::process).map(|(path, _)| path.into());
        self.config.clone().or_else(named).unwrap_or_else(|| DEFAULT.into())
    }

    /// Its path, as messages have it.
    pub fn name(&self) -> String {
        self.path().to_string_lossy().into_owned()
    }

    /// Whether an argument names it.
    pub fn is_given(&self) -> bool {
        self.config.is_some()
    }

    /// How its agent is reached. None if nobody named it, and it is not where it would be then.
    pub fn reach(&self) -> Result<Option<Reach>, ConfigErrors> {
        let path = self.path();
        let is_named = self.is_given() || CONFIG.of(&environment::process).is_some();
        if !is_named && !path.exists() {
            return Ok(None);
        }
        config::reach(&path).map(Some)
    }

    /// Reads it.
    pub fn load(&self) -> Result<Loaded, ConfigErrors> {
        let path = self.path();
        let by = CONFIG.of(&environment::process).filter(|_| self.config.is_none()).map(|(_, by)| by);
        config::load(&path).map_err(|errors| match by == Some(CONFIG.alias) {
            true => errors.hint(environment::config_hint()),
            false => errors,
        })
    }
}
