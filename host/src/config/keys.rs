//! Keys that must have signed what is uploaded: PEM, as it is or in files.

use std::path::PathBuf;

use super::fields::Fields;
use super::raw::{Node, Value};
use crate::signing::{Keys, PublicKey};

/// Keys of a project at most: each upload is checked with each.
const MOST: usize = 16;

/// Who must have signed what is uploaded for the logstores of a project.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PluginKeys {
    /// One of these; if there are none, nobody has to.
    pub keys: Keys,
    /// The files that some were in, which are read when the configuration is.
    pub files: Vec<PathBuf>,
}

/// The keys of a list.
pub(super) fn plugin_keys(node: Option<&Node>, fields: &mut Fields) -> PluginKeys {
    let Some(node) = node else { return PluginKeys::default() };
    let items = fields.list(Some(node));
    if items.is_empty() && matches!(node.value, Value::List(_)) {
        fields.error(node, "must have at least one key; leave it out to take what nobody has signed");
    } else if items.len() > MOST {
        fields.error(node, format!("must have at most {MOST} keys"));
    }
    let (mut keys, mut files) = (Vec::new(), Vec::new());
    for item in items.iter().take(MOST) {
        keys.extend(key(item, &mut files, fields));
    }
    PluginKeys { keys: Keys::new(keys), files }
}

fn key(node: &Node, files: &mut Vec<PathBuf>, fields: &mut Fields) -> Option<PublicKey> {
    let text = fields.text(node)?;
    let read = match text.contains("-----BEGIN") {
        true => PublicKey::from_pem(text),
        false => {
            let path = fields.path(node)?;
            files.push(path.clone());
            PublicKey::read(&path)
        }
    };
    read.map_err(|error| fields.error(node, format!("is no public key that can be used: {error:#}"))).ok()
}

#[cfg(test)]
mod tests {
    use super::super::parse_at;
    use super::*;
    use crate::signing::SigningKey;

    fn parse(keys: &str, base: &std::path::Path) -> Result<PluginKeys, String> {
        let text = format!(
            "projects:\n  p:\n    plugin_keys:{keys}\nlogstores: [{{ name: p/a, files: {{ root: /x }}, sink: s }}]\nsinks: {{ s: {{ type: blackhole }} }}\n"
        );
        let loaded = parse_at(&text, "weir.yaml", base.to_owned(), &|_| None).map_err(|errors| errors.to_string())?;
        let keys = loaded.config.projects["p"].plugin_keys.clone();
        assert_eq!(loaded.config.logstores[0].plugin_keys, keys.keys);
        Ok(keys)
    }

    #[test]
    fn keys_are_pem_or_files_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let publics: Vec<_> = (0..2).map(|_| SigningKey::generate().public()).collect();
        std::fs::write(dir.path().join("a.pub"), publics[0].to_pem().unwrap()).unwrap();
        let inline = publics[1].to_pem().unwrap().replace('\n', "\n        ");
        let keys = parse(&format!("\n      - a.pub\n      - |\n        {inline}"), dir.path()).unwrap();
        assert_eq!(keys.keys, Keys::new(publics));
        assert_eq!(keys.files, [dir.path().join("a.pub")]);
        std::fs::write(dir.path().join("b.pub"), "hello").unwrap();
        for (keys, expected) in [
            (
                " []",
                "3:5: projects.p.plugin_keys: must have at least one key; leave it out to take what nobody has signed",
            ),
            (
                " a.pub",
                "3:5: projects.p.plugin_keys: must be a list, not \"a.pub\"\n  hint: put it in brackets: [a, b]",
            ),
            (
                " [b.pub]",
                "3:19: projects.p.plugin_keys[0]: is no public key that can be used: the key DIR/b.pub: there is no public key in it",
            ),
            (
                " [a.pub, c.pub]",
                "3:26: projects.p.plugin_keys[1]: is no public key that can be used: the key DIR/c.pub: No such file or directory (os error 2)",
            ),
            (
                " ['-----BEGIN']",
                "3:19: projects.p.plugin_keys[0]: is no public key that can be used: there is no public key in it",
            ),
        ] {
            let expected = expected.replace("DIR", dir.path().to_str().unwrap());
            assert_eq!(parse(keys, dir.path()).unwrap_err(), format!("weir.yaml:{expected}\n1 error in weir.yaml"));
        }
    }
}
