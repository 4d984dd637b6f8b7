//! Plugins in registries of images: pushed, pulled and signed there, as other tools do it too.
//!
//! ```text
//! reference    oci://HOST/REPOSITORY:TAG@sha256:…
//! credentials  who asks: arguments, variables, ~/.docker/config.json
//! http         requests to one repository: tokens, redirects, time limits, and never more bytes than are wanted
//! artifact     a plugin as manifest, config and layer: the layout for WebAssembly that registries agree on
//! cosign       signatures of manifests, as `cosign sign --key` attaches them
//! ```
//!
//! A registry may be anyone's. What it sends is bounded, and believed only when its digest is the one that was asked for.

mod artifact;
mod cosign;
mod credentials;
mod http;
mod reference;

pub use artifact::{Pulled, pull, push};
pub use credentials::{Account, Credentials};
pub use http::{Access, Repository, Told};
pub use reference::{BadReference, Digest, Reference, SCHEME};
