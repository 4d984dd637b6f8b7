//! The checks that a plugin passes before it runs, in their order, and which of them failed.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What is checked, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// The bytes of the `.wasm`.
    Size,
    /// That one of the keys that its project asks for has signed it.
    Signature,
    /// That it is a component, made for a version of the plugin API that there is.
    Api,
    /// That it imports nothing but what plugins are given.
    Imports,
    /// That the memories and tables that it begins with are within its limits.
    Limits,
    /// That it compiles, within limits.
    Compile,
    /// That it takes its settings.
    Configure,
    /// What it makes of the logstore's last lines.
    DryRun,
}

impl Check {
    /// All of them, in their order.
    pub const ALL: [Check; 8] = [
        Check::Size,
        Check::Signature,
        Check::Api,
        Check::Imports,
        Check::Limits,
        Check::Compile,
        Check::Configure,
        Check::DryRun,
    ];
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Check::Size => "size",
            Check::Signature => "signature",
            Check::Api => "plugin API",
            Check::Imports => "imports",
            Check::Limits => "limits",
            Check::Compile => "compiling",
            Check::Configure => "settings",
            Check::DryRun => "dry run",
        })
    }
}

/// A check that failed, and why.
#[derive(Debug, thiserror::Error)]
#[error("{error:#}")]
pub struct Failed {
    /// Which one.
    pub check: Check,
    /// In words.
    pub error: anyhow::Error,
}

/// Says of an error which check it comes from.
pub trait During<T> {
    /// As the reason why that check failed.
    fn during(self, check: Check) -> Result<T, Failed>;
}

impl<T, E: Into<anyhow::Error>> During<T> for Result<T, E> {
    fn during(self, check: Check) -> Result<T, Failed> {
        self.map_err(|error| Failed { check, error: error.into() })
    }
}
