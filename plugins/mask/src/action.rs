//! What becomes of a secret.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use weir_plugin::prelude::*;

/// What becomes of a secret.
#[derive(Clone, Copy, Default, Deserialize, PartialEq, Eq, Settings)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// A text comes instead, `***` if not given.
    #[default]
    Replace,
    /// A keyed hash comes instead: the same for the same text, so that events can still be counted and joined by it.
    Hash,
    /// Letters and digits become `*`, but for the last ones.
    KeepLast,
}

/// An action with what it needs.
pub enum Way {
    Replace(String),
    Hash(Box<Hmac<Sha256>>),
    KeepLast(usize),
}

/// Bytes of a hash that are written, two characters each: two texts of 10¹⁸ have the same by chance.
const HASH: usize = 16;
const SHORTEST_KEY: usize = 16;

impl Way {
    /// The error says which setting is missing, or has no use.
    pub fn new(action: Action, with: Option<String>, last: Option<usize>, key: &str) -> Result<Self, String> {
        if with.is_some() && action != Action::Replace {
            return Err("with: only the action replace has it".to_owned());
        }
        if last.is_some() && action != Action::KeepLast {
            return Err("last: only the action keep_last has it".to_owned());
        }
        Ok(match action {
            Action::Replace => Way::Replace(with.unwrap_or_else(|| "***".to_owned())),
            Action::KeepLast => Way::KeepLast(last.unwrap_or(4)),
            Action::Hash if key.len() < SHORTEST_KEY => {
                return Err(format!("the action hash needs a key of {SHORTEST_KEY} bytes or more"));
            }
            Action::Hash => Way::Hash(Box::new(Hmac::new_from_slice(key.as_bytes()).map_err(|e| e.to_string())?)),
        })
    }

    /// Writes what comes instead of the secret.
    pub fn write(&self, secret: &[u8], out: &mut Vec<u8>) {
        match self {
            Way::Replace(with) => out.extend_from_slice(with.as_bytes()),
            Way::KeepLast(last) => keep_last(secret, *last, out),
            Way::Hash(keyed) => {
                let mut hash = keyed.as_ref().clone();
                hash.update(secret);
                for byte in &hash.finalize().into_bytes()[..HASH] {
                    out.extend([byte >> 4, byte & 15].map(|digit| b"0123456789abcdef"[usize::from(digit)]));
                }
            }
        }
    }
}

fn keep_last(secret: &[u8], last: usize, out: &mut Vec<u8>) {
    // A character's first byte stands for all of it.
    let counts = |byte: u8| byte.is_ascii_alphanumeric() || byte >= 0xc0;
    let count = secret.iter().filter(|b| counts(**b)).count();
    let mut hidden = count - last.min(count / 2);
    for (i, byte) in secret.iter().enumerate() {
        if hidden == 0 {
            let rest = secret[i..].iter().position(|b| !(0x80..0xc0).contains(b)).unwrap_or(secret.len() - i);
            out.extend_from_slice(&secret[i + rest..]);
            return;
        }
        if counts(*byte) {
            out.push(b'*');
            hidden -= 1;
        } else if byte.is_ascii() {
            out.push(*byte);
        }
    }
}
