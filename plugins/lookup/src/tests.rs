use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;
use weir_plugin::network::Network;
use weir_plugin::testing::{golden, ndjson, with_files};

use super::Lookup;
use super::networks::Networks;

/// What becomes of events by a table.
fn with_table(table: &str, settings: &str, events: &[&str]) -> Result<Vec<String>, String> {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("t.csv"), table).unwrap();
    let settings = settings.replacen('{', r#"{"file":"t.csv","#, 1);
    with_files(dir.path(), || ndjson::<Lookup>("lookup", &settings, events))
}

const TEAMS: &str = "service,team,tier\nweb,shop,1\n\"a,b\",\"say \"\"x\"\"\",\ncron,ops,3\ncron,core,2\n";

#[test]
fn golden_files() {
    golden::<Lookup>("lookup", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden"));
}

#[test]
fn a_row_is_found_by_its_key() {
    let events =
        [r#"{"s":"web","tier":9,"z":1}"#, r#"{"s":"a,b"}"#, r#"{"s":"cron"}"#, r#"{"s":"none","tier":9}"#, "{}"];
    assert_eq!(
        with_table(TEAMS, r#"{"field":"s","key":"service","types":{"tier":"integer"}}"#, &events).unwrap(),
        [
            r#"{"s":"web","z":1,"team":"shop","tier":1}"#,
            r#"{"s":"a,b","team":"say \"x\""}"#,
            r#"{"s":"cron","team":"core","tier":2}"#,
            r#"{"s":"none","tier":9}"#,
            "{}",
        ]
    );
}

#[test]
fn columns_are_chosen_and_named() {
    let settings = r#"{"field":"s","key":"service","columns":["tier","service"],"prefix":"svc.","on_missing":"fail"}"#;
    assert_eq!(
        with_table(
            &format!("\u{feff}{TEAMS}").replace('\n', "\r\n"),
            settings,
            &[r#"{"s":"web"}"#, r#"{"s":"x"}"#, "{}"]
        )
        .unwrap(),
        [
            r#"{"s":"web","svc.tier":"1","svc.service":"web"}"#,
            r#"{"s":"x","__error__":"lookup: no row of the table"}"#,
            r#"{"__error__":"lookup: no field `s`"}"#,
        ]
    );
}

#[test]
fn the_smallest_network_counts() {
    let table = "net;zone\n10.0.0.0/8;all\n10.1.0.0/16;a\n10.1.2.0/24;b\n10.1.2.3;c\n10.3.0.0/16;d\n2001:db8::/32;e\n192.168.0.0/16;f\n192.168.0.0/16;g\n";
    let settings = r#"{"field":"ip","key":"net","match":"network","separator":";"}"#;
    for (ip, zone) in [
        ("10.0.0.1", Some("all")),
        ("10.1.0.1", Some("a")),
        ("10.1.2.4", Some("b")),
        ("10.1.2.3", Some("c")),
        ("10.1.3.0", Some("a")),
        ("10.2.0.0", Some("all")),
        ("10.3.255.255", Some("d")),
        ("10.255.255.255", Some("all")),
        ("::ffff:10.2.0.0", Some("all")),
        ("11.0.0.0", None),
        ("9.255.255.255", None),
        ("2001:db8::1", Some("e")),
        ("192.168.1.1", Some("g")),
        ("x", None),
    ] {
        let out = with_table(table, settings, &[&format!(r#"{{"ip":"{ip}"}}"#)]).unwrap();
        let zone = zone.map_or(String::new(), |zone| format!(r#","zone":"{zone}""#));
        assert_eq!(out, [format!(r#"{{"ip":"{ip}"{zone}}}"#)]);
    }
}

#[test]
fn networks_may_be_written_as_ipv6() {
    let table = "net,zone\n::ffff:10.0.0.0/104,a\n::ffff:10.1.2.3,b\n";
    let settings = r#"{"field":"ip","key":"net","match":"network"}"#;
    for (ip, zone) in [("10.9.9.9", "a"), ("::ffff:10.1.2.3", "b"), ("10.1.2.3", "b")] {
        let out = with_table(table, settings, &[&format!(r#"{{"ip":"{ip}"}}"#)]).unwrap();
        assert_eq!(out, [format!(r#"{{"ip":"{ip}","zone":"{zone}"}}"#)]);
    }
}

#[test]
fn tables_may_be_wide_and_cells_may_have_lines() {
    let names: Vec<_> = (0..200).map(|i| format!("c{i}")).collect();
    let values: Vec<_> = (0..200).map(|i| format!("\"v\n{i}\"")).collect();
    let table = format!("{}\n\n{}\nshort\n", names.join(","), values.join(","));
    let settings = r#"{"field":"f","key":"c0","columns":["c199"]}"#;
    let error = with_table(&table, settings, &[]).unwrap_err();
    assert_eq!(error, "t.csv: line 204: it has 1 columns, but the first line 200");
    let out = with_table(table.trim_end_matches("short\n"), settings, &[r#"{"f":"v\n0"}"#]).unwrap();
    assert_eq!(out, [r#"{"f":"v\n0","c199":"v\n199"}"#]);
}

#[test]
fn wrong_tables_and_settings_are_refused() {
    let exact = r#"{"field":"s","key":"service"}"#;
    for (table, settings, expected) in [
        (TEAMS, r#"{"field":"s","key":"name"}"#, "t.csv: it has no column `name`, but service, team, tier"),
        (TEAMS, r#"{"field":"s","key":"service","columns":["x"]}"#, "t.csv: it has no column `x`"),
        (
            TEAMS,
            r#"{"field":"s","key":"service","types":{"x":"text"}}"#,
            "types: no column that becomes a field has the name `x`",
        ),
        (TEAMS, r#"{"field":"s","key":"service","prefix":"__"}"#, "field `__team`: names that begin with `__`"),
        (TEAMS, r#"{"field":"s","key":"service","match":"network"}"#, "t.csv: line 2: `web` is not a network"),
        (TEAMS, r#"{"field":"s","key":"service","separator":"é"}"#, "separator: it must be a character of ASCII"),
        (TEAMS, r#"{"field":"s"}"#, "missing field `key`"),
        ("service,team\nweb\n", exact, "t.csv: line 2: it has 1 columns, but the first line 2"),
        ("", exact, "t.csv: it has no column `service`"),
        ("service,team\nweb,\"x\ncron,ops\n", exact, "t.csv: line 2: a quote is not closed"),
        ("service,team\nweb,\"x\"\"", exact, "t.csv: line 2: a quote is not closed"),
        ("\"service,team\nweb,x", exact, "t.csv: line 1: a quote is not closed"),
        ("service,team\nweb,\"a\nb\"\ncron,\"1\"junk\n", exact, "t.csv: line 4: bytes behind a closing quote"),
        ("service,team\r\n\"web\" ,x\r\n", exact, "t.csv: line 2: bytes behind a closing quote"),
        ("service,v,v\nweb,1,2\n", exact, "t.csv: line 1: the column `v` is there twice"),
    ] {
        let error = with_table(table, settings, &[]).unwrap_err();
        assert!(error.starts_with(expected), "{settings}: {error}");
    }
    let error = ndjson::<Lookup>("lookup", r#"{"file":"t.csv","field":"s","key":"k"}"#, &[]).unwrap_err();
    assert_eq!(error, "file: no files are granted");
}

#[test]
fn quotes_are_read_where_they_are_right() {
    let table = "service,team\n\"web\",\"a \"\"b\"\"\"\r\ncron,5\" \"x\"\ndb,\"\"\n\"\n\",\"\"\"\"";
    for (service, team) in
        [("web", r#","team":"a \"b\"""#), ("cron", r#","team":"5\" \"x\"""#), ("db", ""), (r"\n", r#","team":"\"""#)]
    {
        let out = with_table(table, r#"{"field":"s","key":"service"}"#, &[&format!(r#"{{"s":"{service}"}}"#)]).unwrap();
        assert_eq!(out, [format!(r#"{{"s":"{service}"{team}}}"#)]);
    }
}

proptest! {
    /// The network is that which a look at all of them finds.
    #[test]
    fn networks_are_found_as_one_by_one(
        v4 in prop::collection::vec((any::<u32>().prop_map(|a| a & 0xc003_00f1), 0u8..=32), 0..20),
        v6 in prop::collection::vec((any::<u128>().prop_map(|a| a & (0b101 << 120 | 0b11)), 0u8..=128), 0..10),
        addresses in prop::collection::vec(any::<u32>().prop_map(|a| a & 0xc003_00f3), 0..20),
        long in prop::collection::vec(any::<u128>().prop_map(|a| a & (0b111 << 120 | 0b111)), 0..20),
    ) {
        let v4 = v4.into_iter().map(|(a, prefix)| format!("{}/{prefix}", Ipv4Addr::from(a)));
        let v6 = v6.into_iter().map(|(a, prefix)| format!("{}/{prefix}", Ipv6Addr::from(a)));
        let all: Vec<_> = v4.chain(v6).enumerate().map(|(i, n)| (Network::parse(&n).unwrap(), i as u32)).collect();
        let networks = Networks::new(all.clone());
        let addresses = addresses.into_iter().map(|a| IpAddr::V4(a.into())).chain(long.into_iter().map(|a| IpAddr::V6(a.into())));
        for address in addresses {
            let expected = all.iter().filter(|(network, _)| network.contains(address)).max_by_key(|(n, row)| (n.prefix(), *row));
            prop_assert_eq!(networks.find(address), expected.map(|(_, row)| *row), "{}", address);
        }
    }
}
