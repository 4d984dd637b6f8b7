//! Every verb against every kind of token.

use std::fs::File;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::{APP, APP_PLUGINS, Client, Managed, OPERATOR, OTHER, SHOP, settings, wasm};
use crate::harness::{Site, beside};

/// What is answered to: the operator, the logstore's project, another project, a token that is nobody's, and no token.
const EXPECTED: [(&str, [u16; 5]); 16] = [
    ("get /healthz", [200, 200, 200, 401, 200]),
    ("get /readyz", [200, 200, 200, 401, 200]),
    ("get /metrics", [200, 200, 200, 401, 401]),
    ("get /v1/openapi.json", [200, 200, 200, 401, 200]),
    ("get /v1/status", [200, 200, 200, 401, 401]),
    ("get /v1/logstores", [200, 200, 200, 401, 401]),
    ("get /v1/logstores/{project}/{logstore}", [200, 200, 404, 401, 401]),
    ("get /v1/logstores/{project}/{logstore}/tap", [200, 200, 404, 401, 401]),
    ("get /v1/logstores/{project}/{logstore}/log", [200, 200, 404, 401, 401]),
    ("get /v1/logstores/{project}/{logstore}/plugins", [200, 200, 404, 401, 401]),
    ("post /v1/logstores/{project}/{logstore}/plugins", [201, 201, 404, 401, 401]),
    ("get /v1/logstores/{project}/{logstore}/plugins/{version}", [200, 200, 404, 401, 401]),
    ("delete /v1/logstores/{project}/{logstore}/plugins/{version}", [204, 204, 404, 401, 401]),
    ("post /v1/logstores/{project}/{logstore}/plugins/{version}/activate", [200, 200, 404, 401, 401]),
    ("post /v1/logstores/{project}/{logstore}/plugins/rollback", [200, 200, 404, 401, 401]),
    ("post /v1/reload", [200, 403, 403, 401, 401]),
];

const TOKENS: [Option<&str>; 5] = [Some(OPERATOR), Some(SHOP), Some(OTHER), Some("nobody-nobody-nobody"), None];

#[test]
fn every_verb_against_every_token() {
    let managed = Managed::new(Site::new(), APP);
    managed.site.write("logs/app.log", "");
    let agent = managed.start();
    let verbs = verbs(&managed.operator());
    let expected: Vec<_> = EXPECTED.iter().map(|(verb, _)| (*verb).to_owned()).collect();
    assert_eq!(sorted(verbs), sorted(expected), "the verbs of the description, and those that are expected here");
    // Taps end with an event.
    beside(
        |is_done| write_lines(&managed.site, is_done),
        || EXPECTED.iter().for_each(|(verb, statuses)| check(&managed, verb, statuses)),
    );
    let ran = agent.stop();
    ran.assert_settled();
}

fn check(managed: &Managed, verb: &str, statuses: &[u16; 5]) {
    let operator = managed.operator();
    for (index, (token, expected)) in TOKENS.into_iter().zip(statuses).enumerate() {
        // The version that ran before is another, and may go.
        let column = format!("of_{}_{index}", verb.replace(|c: char| !c.is_alphanumeric(), "_"));
        let pushed = operator.push(APP_PLUGINS, &wasm("delimiter"), &settings(&column));
        assert_eq!(pushed.status, 201, "{}", pushed.text());
        let number = pushed.json()["version"]["number"].as_u64().unwrap();
        assert_eq!(operator.ask("POST", &format!("{APP_PLUGINS}/0/activate")).status, 200);
        let before = operator.get(APP_PLUGINS);

        let (method, path) = verb.split_once(' ').unwrap();
        let path = path.replace("{project}", "shop").replace("{logstore}", "app");
        let path = path.replace("{version}", &number.to_string()).replace("/tap", "/tap?limit=1");
        let client = managed.client(token);
        let answer = match verb {
            "post /v1/logstores/{project}/{logstore}/plugins" => {
                client.push(&path, &wasm("delimiter"), &settings("pushed"))
            }
            _ => client.ask(&method.to_ascii_uppercase(), &path),
        };
        assert_eq!(answer.status, *expected, "{verb} with {token:?}: {}", answer.text());
        if *expected >= 400 {
            assert_eq!(operator.get(APP_PLUGINS), before, "{verb} with {token:?} has changed something");
        } else if token == Some(OTHER) && !path.ends_with("openapi.json") {
            assert!(!answer.text().contains("shop"), "{verb} shows another project: {}", answer.text());
        }
    }
}

fn verbs(client: &Client) -> Vec<String> {
    let description = client.get("/v1/openapi.json");
    let paths = description["paths"].as_object().unwrap();
    let of_path = |(path, verbs): (&String, &serde_json::Value)| {
        verbs.as_object().unwrap().keys().map(|verb| format!("{verb} {path}")).collect::<Vec<_>>()
    };
    paths.iter().flat_map(of_path).collect()
}

fn sorted(mut list: Vec<String>) -> Vec<String> {
    list.sort();
    list
}

/// A line every few milliseconds.
pub fn write_lines(site: &Site, is_done: &AtomicBool) {
    let mut log = File::options().append(true).create(true).open(site.path("logs/app.log")).unwrap();
    let mut number = 0;
    while !is_done.load(Ordering::Relaxed) {
        log.write_all(format!("{number},x\n").as_bytes()).unwrap();
        number += 1;
        thread::sleep(Duration::from_millis(2));
    }
}
