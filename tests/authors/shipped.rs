//! The plugins that weir ships keep to their golden cases and to all manners.

use std::fs;
use std::os::unix::fs::symlink;

use crate::harness::{Site, repository};
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
    assert!(names.len() >= 4, "{names:?}");
    let done = site.output(["plugin", "test"].into_iter().chain(names.iter().map(String::as_str)));
    assert_eq!(done.status.code(), Some(0), "{}{}", done.text(), done.stderr);
    for name in names {
        assert!(done.text().contains(&format!("{name} ({name})\n  cases\n    passed ")), "{}", done.text());
    }
}
