//! `weir checkpoints`: how far files were read.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::config_file::ConfigFile;
use crate::checkpoint;
use crate::source::BEGUN;
use crate::source::identity::{FileId, Position};
use crate::source::rotation::is_gzip;

/// Say how far each file has been read and settled
///
/// Can be asked while the agent runs: it says what was written to disk last, a second ago or so.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    config: ConfigFile,
    /// The agent's data directory, instead of the configuration's
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Only files of this logstore
    #[arg(long, value_name = "PROJECT/LOGSTORE")]
    logstore: Option<String>,
    /// One line of JSON for each file
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<()> {
    super::log::start("warn");
    let data_dir = match &args.data_dir {
        Some(dir) => dir.clone(),
        None => args.config.load()?.config.data_dir,
    };
    let path = data_dir.join("checkpoint.redb");
    if !path.exists() {
        say!("nothing was settled yet: there is no {}", path.display());
        return Ok(());
    }
    let mut rows = checkpoint::read(&path).with_context(|| format!("the checkpoint {}", path.display()))?;
    rows.retain(|((_, file), _)| *file != BEGUN);
    rows.retain(|((logstore, _), _)| args.logstore.as_ref().is_none_or(|wanted| wanted == logstore));
    rows.sort_by(|((a, _), x), ((b, _), y)| (a, &x.path).cmp(&(b, &y.path)));
    if args.json {
        for ((logstore, file), position) in &rows {
            say!("{}", serde_json::json!({ "logstore": logstore, "file": file, "position": position }));
        }
        return Ok(());
    }
    let head = ["LOGSTORE", "FILE", "SETTLED", "SIZE", "STATE"].map(str::to_owned).to_vec();
    let table = rows.iter().map(|((logstore, file), position)| {
        let (size, state) = describe(*file, position);
        // A name may have anything in it.
        let path = position.path.escape_debug().to_string();
        vec![logstore.clone(), path, position.place.offset.to_string(), size, state]
    });
    super::print_left(&[vec![head], table.collect()].concat());
    Ok(())
}

/// The file's size, and what is to be said of it.
fn describe(file: FileId, position: &Position) -> (String, String) {
    let unknown = |state: &str| ("-".to_owned(), state.to_owned());
    if position.gone.is_some() {
        return unknown("not found any more");
    }
    let meta = match fs::metadata(&position.path) {
        Err(_) => return unknown("not there by this name"),
        Ok(meta) if (FileId { device: meta.dev(), inode: meta.ino() }) != file => {
            return unknown("another file has this name");
        }
        Ok(meta) => meta,
    };
    let state = match meta.len().checked_sub(position.place.offset) {
        _ if is_gzip(Path::new(&position.path)) => "compressed: of its content".to_owned(),
        Some(0) => "all is settled".to_owned(),
        Some(left) => format!("{left} bytes to go"),
        None => "shorter than before".to_owned(),
    };
    (meta.len().to_string(), state)
}
