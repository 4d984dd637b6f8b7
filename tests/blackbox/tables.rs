//! Files that a plugin may read, in the agent: changed while it runs, and outside of what is granted.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::Value;

use crate::harness::Site;

/// Looks up `peer` in a table below `tables`.
fn site(table: &str) -> Site {
    let site = Site::new();
    site.write("tables/zones.csv", "peer,zone\n10,one\n");
    site.write("secret.csv", "peer,zone\n10,secret\n");
    symlink("../secret.csv", site.path("tables/link.csv")).unwrap();
    let lookup = format!("{{ use: lookup, files: tables, settings: {{ file: {table}, field: peer, key: peer }} }}");
    site.config(&format!(
        "- {{ name: a/b, files: {{ root: logs }}, plugins: [{{ use: json }}, {lookup}], sink: out }}"
    ));
    site
}

#[test]
fn a_table_that_changes_is_read_again_and_no_line_is_lost() {
    let site = site("zones.csv");
    let zones = |site: &Site| -> Vec<String> {
        site.events("a/b").iter().map(|event| event["zone"].as_str().unwrap().to_owned()).collect()
    };
    let mut agent = site.start();
    let mut written = 0;
    // Replaced as editors and kubelets do it, and written in place.
    for (zone, replace) in [("one", None), ("two", Some(true)), ("three", Some(false))] {
        let table = format!("peer,zone\n10,{zone}\n");
        match replace {
            None => {}
            Some(true) => {
                site.write("tables/new", &table);
                site.rename("tables/new", "tables/zones.csv");
            }
            Some(false) => fs::write(site.path("tables/zones.csv"), &table).unwrap(),
        }
        agent.wait(zone, |site| {
            let seen = zones(site);
            if seen.len() == written && seen.last().is_none_or(|last| last != zone) {
                site.append("logs/a.log", format!("{{\"n\":{written},\"peer\":\"10\"}}\n"));
                written += 1;
            }
            seen.last().is_some_and(|last| last == zone)
        });
    }
    let ran = agent.stop();
    ran.assert_settled();
    let count = written as u64;
    ran.assert_counts("a/b", [count, count, 0, 0]);
    let numbers: Vec<_> = site.events("a/b").iter().map(|event| event["n"].clone()).collect();
    assert_eq!(numbers, (0..written).map(Value::from).collect::<Vec<_>>());
    // Each table in its turn, and never back.
    let mut seen = zones(&site);
    seen.dedup();
    assert_eq!(seen, ["one", "two", "three"]);
}

#[test]
fn a_table_outside_of_what_is_granted_is_refused() {
    for (table, reason) in [
        ("../secret.csv", "a path led outside of the filesystem"),
        ("link.csv", "a path led outside of the filesystem"),
        ("none.csv", "No such file or directory"),
    ] {
        let site = site(table);
        let ran = site.run_with(&[]);
        ran.assert_code(78);
        ran.assert_says(&format!("plugin lookup: it refuses its settings: file: {table}: {reason}"));
        assert_eq!(site.ndjson("a/b"), b"");
    }
}
