//! Who asks a registry: by arguments, by variables, or as `docker login` has written it down.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::environment;

/// Variables that stand for arguments.
const USERNAME: &str = "WEIR_REGISTRY_USERNAME";
const PASSWORD: &str = "WEIR_REGISTRY_PASSWORD";

/// Bytes of a file with a password, or with logins.
const FILE: u64 = 1 << 20;

/// A name and a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Account {
    /// The name.
    pub username: String,
    /// The password, or a token in place of one.
    pub password: String,
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}:***", self.username)
    }
}

/// What was found for a registry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Credentials {
    /// Who asks; nobody in particular if there is none.
    pub account: Option<Account>,
    /// Why there may be none: what to say to whom the registry refuses.
    pub hint: Option<String>,
}

impl Credentials {
    /// Those of the arguments; or of the variables; or of Docker's file.
    pub fn find(host: &str, username: Option<&str>, password_file: Option<&Path>) -> Result<Self> {
        if let Some(username) = username {
            let path = password_file.context("--username needs --password-file")?;
            return Ok(Credentials::of(username, read(path)?.trim_end_matches(['\n', '\r'])));
        }
        let variable = |name: &str| environment::process(name).filter(|value| !value.is_empty());
        match (variable(USERNAME), variable(PASSWORD)) {
            (Some(username), Some(password)) => return Ok(Credentials::of(&username, &password)),
            (None, None) => {}
            _ => bail!("{USERNAME} and {PASSWORD} are given together, or not at all"),
        }
        match logins_file() {
            Some(path) if path.exists() => in_logins(&path, host),
            _ => Ok(Credentials::default()),
        }
    }

    fn of(username: &str, password: &str) -> Self {
        let account = Account { username: username.to_owned(), password: password.to_owned() };
        Credentials { account: Some(account), hint: None }
    }
}

/// Where `docker login` writes.
fn logins_file() -> Option<PathBuf> {
    let dir = environment::process("DOCKER_CONFIG").filter(|dir| !dir.is_empty()).map(PathBuf::from);
    let home = || Some(PathBuf::from(environment::process("HOME").filter(|home| !home.is_empty())?).join(".docker"));
    Some(dir.or_else(home)?.join("config.json"))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Logins {
    #[serde(default)]
    auths: BTreeMap<String, Login>,
    creds_store: Option<String>,
    #[serde(default)]
    cred_helpers: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Login {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
}

fn in_logins(path: &Path, host: &str) -> Result<Credentials> {
    let name = path.display();
    // What is wrong is not said with what is there: it may be a password.
    let logins: Logins =
        serde_json::from_str(&read(path)?).ok().with_context(|| format!("{name} is not as Docker writes it"))?;
    let login = logins.auths.iter().find(|(known, _)| host_of(known) == host).map(|(_, login)| login);
    let account = match login {
        None => None,
        Some(Login { auth: Some(auth), .. }) if !auth.is_empty() => {
            let decoded = STANDARD.decode(auth).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            let account = decoded.as_deref().and_then(|text| text.split_once(':'));
            let (username, password) =
                account.with_context(|| format!("the login for {host} in {name} cannot be read"))?;
            Some(Account { username: username.to_owned(), password: password.trim_end_matches('\0').to_owned() })
        }
        Some(Login { username: Some(username), password: Some(password), .. }) => {
            Some(Account { username: username.clone(), password: password.clone() })
        }
        Some(_) => None,
    };
    let has_helper = logins.creds_store.is_some() || logins.cred_helpers.contains_key(host);
    let hint = (account.is_none() && has_helper).then(|| {
        format!(
            "{name} leaves its logins to another program, which weir does not run: give --username and --password-file"
        )
    });
    Ok(Credentials { account, hint })
}

/// Keys are hosts, and of old also addresses.
fn host_of(key: &str) -> &str {
    let key = key.trim_start_matches("https://").trim_start_matches("http://");
    let host = key.split('/').next().unwrap_or_default();
    if host == "index.docker.io" { "docker.io" } else { host }
}

fn read(path: &Path) -> Result<String> {
    let describe = || format!("reading {}", path.display());
    let mut text = String::new();
    File::open(path).with_context(describe)?.take(FILE + 1).read_to_string(&mut text).with_context(describe)?;
    ensure!(text.len() as u64 <= FILE, "{} has more than {FILE} bytes", path.display());
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logins_are_found_by_host() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        let auth = STANDARD.encode("shop:a:b");
        let text = format!(
            r#"{{"auths": {{"r.example:5000": {{"auth": "{auth}"}}, "https://index.docker.io/v1/": {{"username": "u", "password": "p"}},
               "bad.example": {{"auth": "???"}}, "empty.example": {{}}}}, "credHelpers": {{"empty.example": "x"}}, "more": 1}}"#
        );
        std::fs::write(&path, text).unwrap();
        let found = |host: &str| in_logins(&path, host);
        assert_eq!(found("r.example:5000").unwrap(), Credentials::of("shop", "a:b"));
        assert_eq!(found("docker.io").unwrap(), Credentials::of("u", "p"));
        assert_eq!(found("r.example").unwrap(), Credentials::default());
        assert!(found("empty.example").unwrap().hint.unwrap().contains("another program"));
        let said = found("bad.example").unwrap_err().to_string();
        assert_eq!(said, format!("the login for bad.example in {} cannot be read", path.display()));
        assert_eq!(format!("{:?}", Credentials::of("shop", "secret").account), "Some(shop:***)");
        std::fs::write(&path, "{\"auths\": \"secret\"}").unwrap();
        assert_eq!(found("x").unwrap_err().to_string(), format!("{} is not as Docker writes it", path.display()));
    }
}
