//! The plugins that weir ships keep to their golden cases and to all manners.

use std::fs;
use std::os::unix::fs::symlink;

use crate::harness::{Site, plugins, repository};
use crate::testing::project;

#[test]
fn every_plugin_that_weir_ships_passes() {
    let site = Site::new();
    let mut names = Vec::new();
    for dir in fs::read_dir(repository().join("plugins")).unwrap().map(|entry| entry.unwrap().path()) {
        let name = dir.file_name().unwrap().to_str().unwrap().to_owned();
        project(&site, &name, &name);
        fs::remove_dir(site.path(format!("{name}/tests/golden"))).unwrap();
        fs::remove_dir(site.path(format!("{name}/tests"))).unwrap();
        symlink(dir.join("tests"), site.path(format!("{name}/tests"))).unwrap();
        names.push(name);
    }
    names.sort();
    let manifests =
        fs::read_dir(repository().join("plugins")).unwrap().map(|entry| entry.unwrap().path().join("Cargo.toml"));
    assert_eq!(names.len(), manifests.filter(|manifest| manifest.is_file()).count(), "{names:?}");
    let built = fs::read_dir(plugins()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut built: Vec<_> = built.filter_map(|file| Some(file.strip_suffix(".wasm")?.to_owned())).collect();
    built.retain(|name| !name.starts_with("weir-"));
    built.sort();
    assert_eq!(built, names);
    let done = site.output(["plugin", "test"].into_iter().chain(names.iter().map(String::as_str)));
    assert_eq!(done.status.code(), Some(0), "{}{}", done.text(), done.stderr);
    for name in names {
        assert!(done.text().contains(&format!("{name} ({name})\n  cases\n    passed ")), "{}", done.text());
    }
}

/// Bytes of a plugin; of one with regular expressions.
const MOST: u64 = 100_000;
const MOST_WITH_REGEX: u64 = 1_500_000;

#[test]
fn plugins_are_small() {
    let mut large = Vec::new();
    for dir in fs::read_dir(repository().join("plugins")).unwrap().map(|entry| entry.unwrap().path()) {
        let name = dir.file_name().unwrap().to_str().unwrap().to_owned();
        let manifest = fs::read_to_string(dir.join("Cargo.toml")).unwrap();
        let most = if manifest.contains("weir-plugin-regex") { MOST_WITH_REGEX } else { MOST };
        let size = fs::metadata(plugins().join(format!("{name}.wasm"))).unwrap().len();
        if size > most {
            large.push(format!("{name} has {size} bytes, of {most}"));
        }
    }
    assert_eq!(large, Vec::<String>::new());
}
