//! All rows once more, in a file of another kind: a line with a checksum, then one line of JSON a row.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::Key;
use crate::source::identity::Position;

/// What the first line begins with; the number is the format's.
const MARK: &str = "weir checkpoint backup 1 ";

#[derive(Serialize, Deserialize)]
struct Row {
    logstore: String,
    file: crate::source::identity::FileId,
    position: Position,
}

/// Writes the file anew; it is whole or not there.
pub fn write(path: &Path, rows: &[(Key, Position)]) -> Result<()> {
    let mut body = Vec::new();
    for ((logstore, file), position) in rows {
        serde_json::to_writer(&mut body, &Row { logstore: logstore.clone(), file: *file, position: position.clone() })?;
        body.push(b'\n');
    }
    let new = path.with_extension("backup.new");
    let mut file = File::create(&new)?;
    writeln!(file, "{MARK}{:016x}", xxh3_64(&body))?;
    file.write_all(&body)?;
    file.sync_all()?;
    Ok(fs::rename(&new, path)?)
}

/// Reads it; an error if it isn't as it was written.
pub fn read(path: &Path) -> Result<Vec<(Key, Position)>> {
    let text = fs::read_to_string(path)?;
    let (first, body) = text.split_once('\n').context("it is empty")?;
    let sum = first.strip_prefix(MARK).context("it is not of this format")?;
    ensure!(format!("{:016x}", xxh3_64(body.as_bytes())) == sum, "its checksum is wrong");
    let row = |line| -> Result<_> {
        let Row { logstore, file, position } = serde_json::from_str(line)?;
        Ok(((logstore, file), position))
    };
    body.lines().map(row).collect()
}
