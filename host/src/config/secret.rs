//! Secrets: given as they are, or in files.

use std::fmt;
use std::path::PathBuf;

use super::fields::{Fields, Table};

/// Something that is never shown.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Secret {
    /// The secret.
    Value(String),
    /// A file with the secret in it, without the line end. It is read again when it changes.
    File(PathBuf),
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Secret::Value(_) => f.write_str("***"),
            Secret::File(path) => write!(f, "the contents of {}", path.display()),
        }
    }
}

impl Secret {
    /// The file that it is in.
    pub fn file(&self) -> Option<&PathBuf> {
        match self {
            Secret::Value(_) => None,
            Secret::File(path) => Some(path),
        }
    }
}

/// A secret under `key`, or in the file that `key_file` names; None if there is neither.
pub(super) fn secret(table: &Table, key: &str, fields: &mut Fields) -> Option<Secret> {
    let file_key = format!("{key}_file");
    match (table.get(key), table.get(&file_key)) {
        (None, None) => None,
        (Some(node), None) => fields.text(node).map(|text| Secret::Value(text.to_owned())),
        (None, Some(node)) => fields.path(node).map(Secret::File),
        (Some(_), Some(node)) => {
            fields.error(node, format!("give either `{key}` or `{file_key}`"));
            None
        }
    }
}

/// A secret that must be there.
pub(super) fn required_secret(table: &Table, key: &str, fields: &mut Fields) -> Option<Secret> {
    if table.get(&format!("{key}_file")).is_none() {
        fields.require(table, key)?;
    }
    secret(table, key, fields)
}

/// The least that a token may have, in bytes: nobody guesses one of random letters.
pub const SHORTEST_TOKEN: usize = 16;

/// The token of somebody who calls the agent: `token`, or `token_file`.
pub(super) fn token(table: &Table, fields: &mut Fields) -> Option<Secret> {
    let token = secret(table, "token", fields)?;
    if let (Secret::Value(value), Some(node)) = (&token, table.get("token")) {
        if value.len() < SHORTEST_TOKEN {
            let hint = Some("make one with `openssl rand -hex 16`".to_owned());
            fields.error_with(node, format!("must have at least {SHORTEST_TOKEN} characters"), hint);
        } else if !value.bytes().all(|byte| byte.is_ascii_graphic()) {
            fields.error(node, "must be of visible ASCII characters, without spaces");
        }
    }
    Some(token)
}
