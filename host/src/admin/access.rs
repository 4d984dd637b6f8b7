//! Who calls: tokens, and what whoever has one may do.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::config::{Config, LogstoreName, SHORTEST_TOKEN, Secret};
use crate::secret::Live;

/// The file in `data_dir` with the operator's token, if the configuration has none.
pub const TOKEN_FILE: &str = "admin.token";

/// Files with tokens are looked at this often at most.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Sees and does everything.
    Operator,
    /// Sees and changes that project.
    Project(String),
    /// Has no token.
    Nobody,
}

impl Role {
    /// Whether a logstore is to be seen and changed.
    pub fn has(&self, name: &LogstoreName) -> bool {
        match self {
            Role::Operator => true,
            Role::Project(project) => *project == name.project,
            Role::Nobody => false,
        }
    }
}

/// The tokens that are accepted.
pub struct Access {
    /// Where the operator's token is, if the configuration has none.
    token_file: PathBuf,
    known: Mutex<Option<Known>>,
}

struct Known {
    config: Arc<Config>,
    tokens: Vec<(Role, Live)>,
    /// What they were when they were looked at.
    hashes: Vec<(Role, [u8; 32])>,
    looked: Instant,
}

impl Access {
    /// Makes a token for the operator in `data_dir`, if there is none.
    pub fn new(data_dir: &Path) -> Result<Self> {
        let token_file = data_dir.join(TOKEN_FILE);
        make_token(&token_file).with_context(|| format!("the operator's token in {}", token_file.display()))?;
        Ok(Access { token_file, known: Mutex::default() })
    }

    /// Whose a token is. None if it is nobody's; or of two, which is as good.
    pub fn role(&self, config: &Arc<Config>, token: &[u8]) -> Option<Role> {
        let given: [u8; 32] = Sha256::digest(token).into();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if known.as_ref().is_none_or(|known| !Arc::ptr_eq(&known.config, config)) {
            let tokens = self.tokens(config);
            *known = Some(Known { config: config.clone(), hashes: hashes(&tokens), tokens, looked: now });
        }
        let known = known.as_mut()?;
        if now - known.looked > LOOK_EVERY {
            (known.hashes, known.looked) = (hashes(&known.tokens), now);
        }
        // All are compared, and each whole: how long that takes says nothing.
        let mut found = Vec::new();
        for (role, hash) in &known.hashes {
            if bool::from(hash.ct_eq(&given)) {
                found.push(role.clone());
            }
        }
        if found.len() == 1 { found.pop() } else { None }
    }

    fn tokens(&self, config: &Config) -> Vec<(Role, Live)> {
        let operator = config.admin.as_ref().and_then(|admin| admin.token.clone());
        let operator = operator.unwrap_or_else(|| Secret::File(self.token_file.clone()));
        let mut tokens = vec![(Role::Operator, Live::new(&operator))];
        for (name, project) in &config.projects {
            let token = project.token.as_ref().map(Live::new);
            tokens.extend(token.map(|token| (Role::Project(name.clone()), token)));
        }
        tokens
    }
}

fn hashes(tokens: &[(Role, Live)]) -> Vec<(Role, [u8; 32])> {
    let hash = |(role, token): &(Role, Live)| {
        let token = token.get().inspect_err(|error| tracing::warn!(?role, "nobody can use {error}")).ok()?;
        if token.len() < SHORTEST_TOKEN {
            tracing::warn!(
                ?role,
                "the token in its file has fewer than {SHORTEST_TOKEN} characters: nobody can use it"
            );
            return None;
        }
        Some((role.clone(), Sha256::digest(token.as_bytes()).into()))
    };
    let hashes: Vec<_> = tokens.iter().filter_map(hash).collect();
    for (i, (role, hash)) in hashes.iter().enumerate() {
        for (other, _) in hashes[..i].iter().filter(|(_, other)| other == hash) {
            tracing::error!(?role, ?other, "both have the same token in their files: nobody can use it");
        }
    }
    hashes
}

/// A file with 256 random bits, that only this user can read.
fn make_token(path: &Path) -> Result<()> {
    if fs::read(path).is_ok_and(|token| token.trim_ascii().len() >= SHORTEST_TOKEN) {
        return Ok(());
    }
    let mut bits = [0; 32];
    let got = rustix::rand::getrandom(&mut bits, rustix::rand::GetRandomFlags::empty())?;
    ensure!(got == bits.len(), "the system has too few random numbers");
    let token: String = bits.iter().map(|byte| format!("{byte:02x}")).collect();
    let unfinished = path.with_extension("token.new");
    let _ = fs::remove_file(&unfinished);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
    file.write_all(format!("{token}\n").as_bytes())?;
    file.sync_all()?;
    Ok(fs::rename(&unfinished, path)?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const OPERATOR: &str = "operator-operator";
    const SHOP: &str = "shop-shop-shop-shop";

    fn config(admin: &str, projects: &str) -> Arc<Config> {
        let text = format!(
            "admin: {{ {admin} }}\nprojects: {{ {projects} }}\nlogstores: [{{ name: shop/a, files: {{ root: /x }}, \
             sink: s }}]\nsinks: {{ s: {{ type: blackhole }} }}\n"
        );
        Arc::new(crate::config::parse(&text, "/weir.yaml", &|_| None).unwrap().config)
    }

    #[test]
    fn whoever_has_a_token_is_known_by_it() {
        let dir = tempfile::tempdir().unwrap();
        let access = Access::new(dir.path()).unwrap();
        let shop = format!("shop: {{ token: {SHOP} }}, other: {{ }}");
        let both = config(&format!("token: {OPERATOR}"), &shop);
        let project = Role::Project("shop".into());
        assert_eq!(access.role(&both, OPERATOR.as_bytes()), Some(Role::Operator));
        assert_eq!(access.role(&both, SHOP.as_bytes()), Some(project.clone()));
        for other in ["", "shop-shop-shop-sho", "shop-shop-shop-shopp", "operator-operatoR"] {
            assert_eq!(access.role(&both, other.as_bytes()), None, "{other}");
        }
        // Without one in the configuration it is the one that was made, from then on.
        let path = dir.path().join(TOKEN_FILE);
        let made = fs::read_to_string(&path).unwrap();
        assert_eq!((made.len(), fs::metadata(&path).unwrap().permissions().mode() & 0o777), (65, 0o600));
        let without = config("", &shop);
        assert_eq!(access.role(&without, OPERATOR.as_bytes()), None);
        assert_eq!(access.role(&without, made.trim().as_bytes()), Some(Role::Operator));
        assert_eq!(access.role(&both, made.trim().as_bytes()), None);
        Access::new(dir.path()).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), made);
    }

    #[test]
    fn tokens_in_files_that_cannot_be_used_are_nobodys() {
        let dir = tempfile::tempdir().unwrap();
        let access = Access::new(dir.path()).unwrap();
        let at = |name: &str| dir.path().join(name);
        for (name, token) in [("a", "same-same-same-same\n"), ("b", "same-same-same-same"), ("c", "short"), ("d", SHOP)]
        {
            fs::write(at(name), token).unwrap();
        }
        let project = |name: &str| format!("{name}: {{ token_file: {} }}", at(name).display());
        let config = config("", &["a", "b", "c", "d", "e"].map(project).join(", "));
        assert_eq!(access.role(&config, b"same-same-same-same"), None);
        assert_eq!(access.role(&config, b"short"), None);
        assert_eq!(access.role(&config, b""), None);
        assert_eq!(access.role(&config, SHOP.as_bytes()), Some(Role::Project("d".into())));
    }

    #[test]
    fn a_role_has_its_own_logstores() {
        let (own, other) = ("shop/a".parse().unwrap(), "shop2/a".parse().unwrap());
        let has = |role: Role| [role.has(&own), role.has(&other)];
        assert_eq!(has(Role::Operator), [true, true]);
        assert_eq!(has(Role::Project("shop".into())), [true, false]);
        assert_eq!(has(Role::Nobody), [false, false]);
    }
}
