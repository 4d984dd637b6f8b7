//! `weir check`: all that is wrong with a configuration.

use anyhow::Result;

use super::config_file::ConfigFile;
use crate::agent::plugins::{Plugins, sandbox_for_tools};
use crate::budget::Budget;
use crate::config::ConfigErrors;
use crate::hint;

/// Say all that is wrong with a configuration
///
/// Plugins are loaded and given their settings, as the agent would. Exits with 78 if there is any error.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    config: ConfigFile,
    /// Leave the plugins out
    #[arg(long)]
    no_plugins: bool,
}

pub fn run(args: &Args) -> Result<()> {
    super::log::start("warn");
    let file = args.config.name();
    let loaded = args.config.load()?;
    for warning in &loaded.warnings {
        complain!("warning: {}", warning.in_file(&file));
    }
    let config = loaded.config;
    for logstore in config.logstores.iter().filter(|logstore| !logstore.files.root.is_dir()) {
        let root = &logstore.files.root;
        complain!("warning: {file}: {}: the root {} does not exist yet", logstore.name, root.display());
        if let Some(hint) = hint::near(root) {
            complain!("  hint: {hint}");
        }
    }
    // Without plugins there is no need of a place for what is compiled.
    if !args.no_plugins && config.logstores.iter().any(|logstore| !logstore.plugins.is_empty()) {
        let mut plugins = Plugins::new(sandbox_for_tools(&super::user_cache())?, &config.plugin_dirs);
        let chains = config.logstores.iter().map(|logstore| plugins.chain(logstore, &Budget::new(None)));
        let problems: Vec<_> = chains.filter_map(|chain| chain.err()).flatten().collect();
        if !problems.is_empty() {
            return Err(ConfigErrors::new(file, problems).into());
        }
    }
    say!("{file}: no errors (logstores: {}, sinks: {})", config.logstores.len(), config.sinks.len());
    Ok(())
}
