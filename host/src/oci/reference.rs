//! What is in a registry, by name: `oci://HOST[:PORT]/REPOSITORY[:TAG][@sha256:DIGEST]`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::LazyLock;

use regex::Regex;
use reqwest::Url;
use serde::{Deserialize, Serialize};

use crate::registry::hex_digest;

/// How references begin.
pub const SCHEME: &str = "oci://";

/// As the distribution specification has them.
static REPOSITORY: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(r"^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$").ok()
});
static TAG: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$").ok());

/// Characters of a repository's name, with its host.
const LONGEST: usize = 255;

/// A place in a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The registry: a host, with a port if it is not the usual one.
    pub host: String,
    /// The name within it.
    pub repository: String,
    /// A name that may be moved to something else.
    pub tag: Option<String>,
    /// What it is, which never changes.
    pub digest: Option<Digest>,
}

impl Reference {
    /// The same thing by its digest alone.
    pub fn by_digest(&self, digest: &Digest) -> Reference {
        Reference { tag: None, digest: Some(digest.clone()), ..self.clone() }
    }

    /// The last part of the repository's name.
    pub fn name(&self) -> &str {
        self.repository.rsplit('/').next().unwrap_or_default()
    }

    /// Whether the registry is on this machine.
    pub fn is_local(&self) -> bool {
        let Ok(url) = Url::parse(&format!("http://{}", self.host)) else { return false };
        let host = url.host_str().unwrap_or_default();
        let ip = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        host == "localhost" || ip.is_ok_and(|ip| ip.to_canonical().is_loopback())
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{SCHEME}{}/{}", self.host, self.repository)?;
        self.tag.iter().try_for_each(|tag| write!(f, ":{tag}"))?;
        self.digest.iter().try_for_each(|digest| write!(f, "@{digest}"))
    }
}

/// A reference that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be like oci://registry.example/team/nginx:1.0: {0}")]
pub struct BadReference(&'static str);

impl FromStr for Reference {
    type Err = BadReference;

    fn from_str(text: &str) -> Result<Self, BadReference> {
        let rest = text.strip_prefix(SCHEME).ok_or(BadReference("it begins with oci://"))?;
        let (host, path) = rest.split_once('/').ok_or(BadReference("there is no repository in it"))?;
        let (path, digest) = match path.split_once('@') {
            None => (path, None),
            Some((path, digest)) => {
                (path, Some(digest.parse().map_err(|_| BadReference("a digest is sha256: and 64 hex digits"))?))
            }
        };
        let (repository, tag) = match path.rsplit_once(':') {
            None => (path, None),
            Some((path, tag)) => (path, Some(tag.to_owned())),
        };
        let is_host = Url::parse(&format!("http://{host}/")).is_ok_and(|url| {
            let is_bare = url.username().is_empty() && url.password().is_none();
            is_bare && url.has_host() && url.path() == "/" && url.query().is_none() && url.fragment().is_none()
        });
        let is = |pattern: &Option<Regex>, text: &str| pattern.as_ref().is_some_and(|pattern| pattern.is_match(text));
        if !is_host || host.is_empty() || host.contains('@') {
            return Err(BadReference("the registry is a host, or host:port"));
        }
        if !is(&REPOSITORY, repository) || host.len() + repository.len() > LONGEST {
            return Err(BadReference("a repository's name is of lower-case letters, digits, and - _ . between them"));
        }
        if !tag.iter().all(|tag| is(&TAG, tag)) {
            return Err(BadReference("a tag is of up to 128 letters, digits, and _ . - within them"));
        }
        Ok(Reference { host: host.to_owned(), repository: repository.to_owned(), tag, digest })
    }
}

/// `sha256:` and 64 hex digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

impl Digest {
    /// That of the bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Digest(format!("sha256:{}", hex_digest(bytes)))
    }

    /// The digits.
    pub fn hex(&self) -> &str {
        self.0.trim_start_matches("sha256:")
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Digest {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let is_hex = |hex: &str| hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let is_digest = text.strip_prefix("sha256:").is_some_and(is_hex);
        if is_digest { Ok(Digest(text.to_owned())) } else { Err("a digest is sha256: and 64 lower-case hex digits") }
    }
}

impl TryFrom<String> for Digest {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        digest.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_taken_apart() {
        let digest = Digest::of(b"x");
        let parts = |text: &str| {
            let reference: Reference = text.parse().unwrap();
            assert_eq!(reference.to_string(), text);
            (reference.host, reference.repository, reference.tag, reference.digest)
        };
        let of = |host: &str, repository: &str, tag: Option<&str>, digest: Option<&Digest>| {
            (host.to_owned(), repository.to_owned(), tag.map(str::to_owned), digest.cloned())
        };
        assert_eq!(parts("oci://r.example/nginx"), of("r.example", "nginx", None, None));
        assert_eq!(parts("oci://[::1]:5000/a/b-c__d.e:V1.0"), of("[::1]:5000", "a/b-c__d.e", Some("V1.0"), None));
        assert_eq!(parts(&format!("oci://h:1/a@{digest}")), of("h:1", "a", None, Some(&digest)));
        assert_eq!(parts(&format!("oci://h/a:t@{digest}")), of("h", "a", Some("t"), Some(&digest)));
    }

    #[test]
    fn what_is_no_reference_is_refused() {
        for (text, why) in [
            ("r.example/nginx", "it begins with oci://"),
            ("oci://nginx", "there is no repository in it"),
            ("oci:///nginx", "the registry is a host, or host:port"),
            ("oci://u:p@r.example/nginx", "the registry is a host, or host:port"),
            ("oci://r.example?x/nginx", "the registry is a host, or host:port"),
            ("oci://r example/nginx", "the registry is a host, or host:port"),
            ("oci://r/Nginx", "a repository's name is of lower-case letters, digits, and - _ . between them"),
            ("oci://r/a/../b", "a repository's name is of lower-case letters, digits, and - _ . between them"),
            ("oci://r/a//b", "a repository's name is of lower-case letters, digits, and - _ . between them"),
            ("oci://r/a?x=y", "a repository's name is of lower-case letters, digits, and - _ . between them"),
            ("oci://r/a:", "a tag is of up to 128 letters, digits, and _ . - within them"),
            ("oci://r/a:-x", "a tag is of up to 128 letters, digits, and _ . - within them"),
            ("oci://r/a@sha256:abc", "a digest is sha256: and 64 hex digits"),
            ("oci://r/a@sha512:abc", "a digest is sha256: and 64 hex digits"),
        ] {
            assert_eq!(text.parse::<Reference>(), Err(BadReference(why)), "{text}");
        }
    }

    #[test]
    fn registries_of_this_machine_are_known() {
        let is_local = |text: &str| text.parse::<Reference>().unwrap().is_local();
        assert_eq!(["oci://localhost:5000/a", "oci://127.0.0.1/a", "oci://[::1]:1/a"].map(is_local), [true; 3]);
        assert_eq!(["oci://localhost.example/a", "oci://10.0.0.1/a"].map(is_local), [false; 2]);
    }
}
