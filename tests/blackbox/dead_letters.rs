//! Events that a destination has refused: seen, sent again, removed, beside an agent that runs.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::harness::{Done, Site};
use crate::servers::Server;

fn config(site: &Site, server: &Server) {
    site.write(
        "weir.yaml",
        format!(
            "data_dir: data\nlogstores:\n- name: shop/web\n  files: {{ root: logs, invalid: keep }}\n  sink: net\n\
             - name: shop/app\n  files: {{ root: app }}\n  sink: net\nsinks:\n  net:\n    type: http\n    \
             url: \"http://127.0.0.1:{}/{{logstore}}\"\n    compression: gzip\n    batch: {{ max_age: 50ms }}\n",
            server.port
        ),
    );
    fs::create_dir_all(site.path("app")).unwrap();
}

fn weir(site: &Site, args: &[&str]) -> Done {
    site.output([&["dead-letters"], args, &["-c", "weir.yaml"]].concat())
}

fn listed(site: &Site) -> Vec<Value> {
    let list = weir(site, &["list", "--json"]);
    list.assert_code(0);
    list.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn ids(site: &Site) -> Vec<String> {
    listed(site).iter().map(|letter| letter["id"].as_str().unwrap().to_owned()).collect()
}

/// 100 lines, of which line 57 is refused, and one of another logstore, which is refused too.
fn refused(site: &Site, server: &Server) {
    config(site, server);
    site.append("logs/a.log", (0..100).map(|n| format!("line {n}\n")).collect::<String>());
    site.append("app/b.log", "poison line 57 too\n");
    let ran = site.run();
    let counts = |name: &str| [ran.summary[name]["delivered"], ran.summary[name]["dead_lettered"]];
    assert_eq!([counts("shop/web"), counts("shop/app")], [[99, 1], [0, 1]]);
}

#[test]
fn what_was_refused_is_listed_shown_and_sent_again_once_it_is_taken() {
    let site = Site::new();
    let mut server = Server::start("http", &["--poison", "line 57"]);
    refused(&site, &server);
    let letters = listed(&site);
    let all: Vec<_> = letters.iter().map(|letter| letter["logstore"].as_str().unwrap()).collect();
    assert_eq!(all, ["shop/app", "shop/web"]);
    let (app, web) = (letters[0]["id"].as_str().unwrap(), letters[1]["id"].as_str().unwrap());
    assert_eq!((&letters[1]["sink"], &letters[1]["events"]), (&"net".into(), &1.into()));
    let table = weir(&site, &["list", "shop/web"]);
    assert!(table.text().contains(web) && !table.text().contains(app), "{}", table.text());
    assert_eq!(table.text().lines().next().unwrap().split_whitespace().next(), Some("LOGSTORE"));

    let shown = weir(&site, &["show", web]);
    assert!(shown.text().contains("\"content\":\"line 57\""), "{}", shown.text());
    assert!(shown.text().starts_with(&format!(
        "id        {web}\nlogstore  shop/web\nsink      net\nformat    http, ndjson\ntime      "
    )));
    let raw = weir(&site, &["show", "--raw", web]);
    assert_eq!(serde_json::from_slice::<Value>(&raw.stdout).unwrap()["content"], "line 57");

    // Refused again, they stay, with what is said now.
    let again = weir(&site, &["replay", "shop/web"]);
    again.assert_code(70);
    assert!(again.text().starts_with(&format!("{web}: refused again: ")), "{}", again.text());
    assert_eq!(ids(&site), [app, web]);
    assert_ne!(listed(&site)[1]["time"], letters[1]["time"]);
    assert_eq!(listed(&site)[0], letters[0]);

    // Nobody there: they stay as they are.
    server.stop();
    let before = listed(&site);
    let nobody = weir(&site, &["replay", "--all"]);
    nobody.assert_code(70);
    assert!(nobody.text().contains(&format!("{app}: not delivered: ")), "{}", nobody.text());
    assert_eq!(listed(&site), before);

    // The sink takes something else by now: what would be taken for it, and delivered, is not sent.
    server.restart_with(&[]);
    let config = fs::read_to_string(site.path("weir.yaml")).unwrap();
    site.write("weir.yaml", config.replace("compression: gzip", "encoding: json"));
    let other = weir(&site, &["replay", "--all"]);
    other.assert_code(70);
    let reason = "not delivered: it was written as http, ndjson, and the sink net takes http, json now";
    assert!(other.text().contains(&format!("{app}: {reason}")), "{}", other.text());
    assert_eq!((listed(&site), server.events().len()), (before, 99));
    site.write("weir.yaml", config);

    let replayed = weir(&site, &["replay", web]);
    replayed.assert_code(0);
    assert_eq!(replayed.text(), format!("{web}: delivered\ndelivered: 1, left: 0\n"));
    assert_eq!(ids(&site), [app]);
    let last = server.events().pop().unwrap();
    assert_eq!((&last.fields["content"], &last.to["path"]), (&"line 57".into(), &"/web".into()));
    assert_eq!(server.events().len(), 100);

    let removed = weir(&site, &["remove", app]);
    removed.assert_code(0);
    assert_eq!(removed.text(), format!("{app}: removed\n"));
    assert!(listed(&site).is_empty());
    assert_eq!(weir(&site, &["list"]).text(), "there are no dead letters\n");
    assert_eq!(server.events().len(), 100);
    assert_eq!(server.errors(), "");
}

#[test]
fn it_works_beside_an_agent() {
    let site = Site::new();
    let mut server = Server::start("http", &["--poison", "poison"]);
    config(&site, &server);
    site.append("logs/a.log", "one\npoison 1\n");
    let mut agent = site.start();
    agent.wait("a letter", |site| ids(site).len() == 1);
    assert_eq!(weir(&site, &["remove", "--all"]).status.code(), Some(0));
    site.append("logs/a.log", "poison 2\ntwo\n");
    agent.wait("another letter", |site| ids(site).len() == 1);
    server.restart_with(&[]);
    weir(&site, &["replay", "--all"]).assert_code(0);
    assert!(ids(&site).is_empty());
    server.wait_for(3);
    let ran = agent.stop();
    let mut contents: Vec<_> = server.events().iter().map(|event| event.fields["content"].clone()).collect();
    contents.sort_by_key(Value::to_string);
    assert_eq!(contents, ["one", "poison 2", "two"]);
    assert_eq!(ran.summary["shop/web"]["dead_lettered"], 2);
}

#[test]
fn what_is_no_text_is_shown_with_escapes() {
    let site = Site::new();
    let server = Server::start("http", &[]);
    config(&site, &server);
    let letter = |logstore: &str, sink: &str, body: &[u8]| -> PathBuf {
        let head = format!(
            r#"{{"sink":"{sink}","logstore":"{logstore}","reason":"bad\u001b[31m","time":"2026-11-23T10:00:00Z"}}"#
        );
        let name = format!("data/dead_letters/{logstore}/{}.letter", body.len());
        site.write(&name, [head.as_bytes(), b"\n", body].concat());
        site.path(name)
    };
    letter("shop/web", "net", b"\x00\x01ab\xff");
    let shown = weir(&site, &["show", "5"]);
    assert!(shown.text().ends_with("\n\n\\x00\\x01ab\\xff\n"), "{}", shown.text());
    assert!(shown.text().contains("reason    bad\\u{1b}[31m\n"), "{}", shown.text());
    assert_eq!(weir(&site, &["show", "--raw", "5"]).stdout, b"\x00\x01ab\xff");
    assert!(weir(&site, &["list"]).text().contains("bad\\u{1b}[31m"));
    let gone = letter("shop/gone", "old", b"{}");
    let replay = weir(&site, &["replay", "shop/gone"]);
    replay.assert_code(70);
    assert!(replay.text().starts_with("2: not delivered: there is no sink old any more\n"), "{}", replay.text());
    assert!(gone.exists());
    let unknown = weir(&site, &["show", "7"]);
    unknown.assert_code(64);
    unknown.assert_says("there is no dead letter 7");
    weir(&site, &["replay"]).assert_code(64);
}
