//! The server with an agent that is none, over real connections.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use anyhow::{Result, bail};
use bytes::Bytes;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::mpsc::{Receiver, channel};
use wit_component::{ComponentEncoder, StringEncoding};
use wit_parser::Resolve;

use super::{Server, openapi};
use crate::books::Books;
use crate::budget::Budget;
use crate::config::{self, Admin, Config, LogstoreName, ServerTls};
use crate::control::{
    Candidate, Control, Health, LogstoreStatus, NotReloaded, ProjectStatus, Reloaded, SinkStatus, Status, Tap,
};
use crate::event::{Batch, CONTENT, Field, Kind};
use crate::registry::Registry;
use crate::sandbox::compile::Compiler;
use crate::sandbox::{Chain, Given, Limits, Log, OnFault, Sandbox, Stage};

const OPERATOR: &str = "operator-operator";
const SHOP: &str = "shop-shop-shop-shop";
const OTHER: &str = "other-other-other";

/// What stands in for an agent: it remembers what it is asked to do.
struct Stub {
    config: Arc<Config>,
    registry: Registry,
    sandbox: Sandbox,
    health: Mutex<Health>,
    applied: AtomicU64,
    cannot_apply: AtomicBool,
    /// Whoever asks how all is, or has something applied, waits while it is closed.
    gate: Gate,
    lines: Vec<&'static str>,
    log: Log,
}

/// Those that wait at it are counted.
#[derive(Default)]
struct Gate {
    /// Whether it is closed, and how many wait.
    state: Mutex<(bool, usize)>,
    changed: Condvar,
}

impl Gate {
    fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.1 += 1;
        self.changed.notify_all();
        while state.0 {
            state = self.changed.wait(state).unwrap();
        }
        state.1 -= 1;
    }

    fn set(&self, is_closed: bool) {
        self.state.lock().unwrap().0 = is_closed;
        self.changed.notify_all();
    }

    /// Waits until so many wait at it.
    fn wait_for(&self, count: usize) {
        let state = self.state.lock().unwrap();
        let waited = self.changed.wait_timeout_while(state, Duration::from_secs(60), |state| state.1 != count);
        assert!(!waited.unwrap().1.timed_out(), "there are not {count}");
    }
}

impl Control for Stub {
    fn config(&self) -> Arc<Config> {
        self.config.clone()
    }

    fn registry(&self) -> &Registry {
        &self.registry
    }

    fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    fn health(&self) -> Health {
        self.health.lock().unwrap().clone()
    }

    fn status(&self, _: Option<&str>) -> Status {
        self.gate.pass();
        let names = self.config.logstores.iter().map(|logstore| logstore.name.clone());
        Status {
            projects: self.config.projects.keys().map(|name| (name.clone(), ProjectStatus::default())).collect(),
            logstores: names.filter_map(|name| Some((name.to_string(), self.logstore(&name)?))).collect(),
            sinks: BTreeMap::from([(
                "s".to_owned(),
                SinkStatus { error: Some("secret".into()), ..Default::default() },
            )]),
            ..Status::default()
        }
    }

    fn logstore(&self, name: &LogstoreName) -> Option<LogstoreStatus> {
        let logstore = self.config.logstores.iter().find(|logstore| logstore.name == *name)?;
        Some(LogstoreStatus { sinks: logstore.sinks.clone(), ..LogstoreStatus::default() })
    }

    fn books(&self) -> Books {
        Books::default()
    }

    fn recent(&self, _: &LogstoreName, _: usize) -> Result<Vec<Batch>> {
        let mut batch = Batch { fields: vec![Field { name: CONTENT.into(), kind: Kind::Text }], ..Batch::default() };
        for line in &self.lines {
            let start = batch.arena.len() as u32;
            batch.arena.extend_from_slice(line.as_bytes());
            batch.cells.extend_from_slice(&[0, start, batch.arena.len() as u32]);
            batch.rows.push(batch.rows.len() as u32 + 1);
        }
        Ok(vec![batch])
    }

    fn given(&self, _: &LogstoreName) -> Given {
        Given { limits: Limits { memory: 4 << 20, ..Limits::default() }, files: false }
    }

    fn chain(&self, name: &LogstoreName, candidate: Option<&Candidate>) -> Result<Chain> {
        let Some(candidate) = candidate else { return Ok(Chain::default()) };
        let stage =
            Stage::new(candidate.plugin.clone(), &candidate.settings, self.given(name).limits, &Budget::new(None))?;
        Ok(Chain::new(vec![stage], OnFault::Raw))
    }

    fn apply(&self, _: &LogstoreName) -> Result<bool> {
        if self.cannot_apply.load(Ordering::Relaxed) {
            bail!("the lane is gone");
        }
        self.gate.pass();
        self.applied.fetch_add(1, Ordering::Relaxed);
        Ok(true)
    }

    fn reload(&self) -> Result<Reloaded, NotReloaded> {
        Err(NotReloaded("weir.yaml:1:1: wrong".into()))
    }

    fn log(&self, _: &LogstoreName) -> Log {
        self.log.clone()
    }

    fn tap(&self, _: &LogstoreName, tap: Tap) -> Result<Receiver<Bytes>> {
        let (sender, receiver) = channel(16);
        for number in 0..10 {
            sender.try_send(Bytes::from(format!("{{\"number\":{number},\"before\":{}}}\n", tap.before)))?;
        }
        Ok(receiver)
    }
}

struct Site {
    dir: TempDir,
    stub: Arc<Stub>,
    server: Server,
}

impl Site {
    fn new() -> Site {
        Site::with("127.0.0.1:0", "", vec!["one", "two", "three"])
    }

    fn with(listen: &str, more: &str, lines: Vec<&'static str>) -> Site {
        let dir = tempfile::tempdir().unwrap();
        let text = format!(
            "admin: {{ listen: '{listen}', token: {OPERATOR}{more} }}
projects:
  shop: {{ token: {SHOP}, uploads: {{ max_size: 64KiB, max_versions: 2 }} }}
  other: {{ token: {OTHER}, uploads: {{ allow: false }} }}
logstores:
- {{ name: shop/a, files: {{ root: /x }}, sink: s, plugins: [{{ use: x, settings: {{ own: 1 }} }}] }}
- {{ name: shop/two, files: {{ root: /x }}, sink: s, plugins: [{{ use: x }}, {{ use: y }}] }}
- {{ name: other/a, files: {{ root: /x }}, sink: t }}
sinks: {{ s: {{ type: blackhole }}, t: {{ type: blackhole }} }}
"
        );
        let config = config::parse(&text, &dir.path().join("weir.yaml").to_string_lossy(), &|_| None).unwrap().config;
        let stub = Arc::new(Stub {
            config: Arc::new(config.clone()),
            registry: Registry::open(&dir.path().join("registry")).unwrap(),
            sandbox: Sandbox::new(Compiler::in_process(&dir.path().join("cache")).unwrap()).unwrap(),
            health: Mutex::default(),
            applied: AtomicU64::new(0),
            cannot_apply: AtomicBool::new(false),
            gate: Gate::default(),
            lines,
            log: Log::of_logstore("shop/a"),
        });
        let server = Server::start(config.admin.as_ref().unwrap(), dir.path(), stub.clone()).unwrap();
        Site { dir, stub, server }
    }

    fn connect(&self) -> TcpStream {
        connect(self.server.address())
    }

    fn ask(&self, method: &str, path: &str, token: &str) -> Answer {
        self.send(method, path, token, "", b"")
    }

    fn send(&self, method: &str, path: &str, token: &str, content_type: &str, body: &[u8]) -> Answer {
        let authorization = if token.is_empty() { String::new() } else { format!("Authorization: Bearer {token}\r\n") };
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: weir\r\nConnection: close\r\n{authorization}Content-Type: \
             {content_type}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let mut stream = self.connect();
        // What is refused by its head need not be read.
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
        Answer::read(stream)
    }

    fn push(&self, path: &str, token: &str, plugin: &[u8], settings: Option<&str>) -> Answer {
        let (kind, body) = multipart(plugin, settings);
        self.send("POST", path, token, &kind, &body)
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream
}

fn multipart(plugin: &[u8], settings: Option<&str>) -> (String, Vec<u8>) {
    let mut body = Vec::new();
    for (name, content) in [("plugin", Some(plugin)), ("settings", settings.map(str::as_bytes))] {
        let Some(content) = content else { continue };
        let head = format!("--BOUND\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"x\"\r\n\r\n");
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(content);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--BOUND--\r\n");
    ("multipart/form-data; boundary=BOUND".to_owned(), body)
}

#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn read(mut stream: impl Read) -> Answer {
        let mut bytes = Vec::new();
        // A connection that is reset after the answer has given it all the same.
        let _ = stream.read_to_end(&mut bytes);
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(bytes.len());
        let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
        let mut body = bytes.get(end + 4..).unwrap_or_default().to_vec();
        if head.contains("transfer-encoding: chunked") {
            body = unchunked(&body);
        }
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        Answer { status, head, body }
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{self:?}"))
    }

    #[track_caller]
    fn says(&self, status: u16, error: &str) {
        assert_eq!((self.status, self.json()["error"].as_str()), (status, Some(error)));
    }
}

fn unchunked(mut body: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    while let Some(end) = body.windows(2).position(|two| two == b"\r\n") {
        let len = usize::from_str_radix(std::str::from_utf8(&body[..end]).unwrap(), 16).unwrap();
        whole.extend_from_slice(&body[end + 2..end + 2 + len]);
        body = &body[end + 4 + len..];
    }
    whole
}

/// A plugin that gives back what came in; settings with `wrong` in them it cannot take. `memory` has so many pages.
pub(crate) fn component(memory: u32, at_each_call: &str) -> Vec<u8> {
    let processor = "weir:plugin/processor@0.1.0";
    let core = format!(
        r#"(module
            (memory (export "memory") {memory})
            (global $free (mut i32) (i32.const 4096))
            (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
                (local $at i32)
                (local.set $at (i32.and (i32.add (global.get $free) (i32.const 7)) (i32.const -8)))
                (global.set $free (i32.add (local.get $at) (local.get 3)))
                (local.get $at))
            (func (export "{processor}#configure") (param i32 i32) (result i32)
                ;; `{{"wrong"...`
                (if (i32.eq (i32.load8_u offset=2 (local.get 0)) (i32.const 119)) (then unreachable))
                (i32.const 1024))
            (func (export "{processor}#process")
                (param $tags i32) (param i32) (param $data i32) (param i32) (param $fields i32) (param $fields# i32)
                (param $rows i32) (param $rows# i32) (param $cells i32) (param $cells# i32) (param $times i32) (param i32)
                (param $last i32) (result i32)
                {at_each_call}
                (i32.store (i32.const 2056) (local.get $fields)) (i32.store (i32.const 2060) (local.get $fields#))
                (i32.store (i32.const 2064) (local.get $rows)) (i32.store (i32.const 2068) (local.get $rows#))
                (i32.store (i32.const 2072) (local.get $cells)) (i32.store (i32.const 2076) (local.get $cells#))
                (global.set $free (i32.const 4096))
                (i32.const 2048)))"#
    );
    let mut module = wat::parse_str(core).unwrap();
    let mut resolve = Resolve::default();
    let wit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../wit/v0.1/plugin.wit");
    let package = resolve.push_str("plugin.wit", &std::fs::read_to_string(wit).unwrap()).unwrap();
    let world = resolve.select_world(&[package], Some("plugin")).unwrap();
    wit_component::embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8, false).unwrap();
    ComponentEncoder::default().module(&module).unwrap().encode().unwrap()
}

const PLUGINS: &str = "/v1/logstores/shop/a/plugins";

#[test]
fn a_plugin_is_pushed_listed_chosen_and_removed() {
    let site = Site::new();
    let (first, second) = (component(1, ""), component(2, ""));

    let dry = site.push(&format!("{PLUGINS}?dry_run=true"), SHOP, &first, Some("{}"));
    assert_eq!((dry.status, &dry.json()["version"], &dry.json()["objection"]), (200, &Value::Null, &Value::Null));
    let report = &dry.json()["report"]["candidate"];
    assert_eq!([&report["events"], &report["parsed"], &report["failed"], &report["faults"]], [3, 3, 0, 0]);
    assert_eq!(report["fields"], json!([{ "name": "content", "kind": "text", "events": 3 }]));
    assert_eq!(site.ask("GET", PLUGINS, SHOP).json()["versions"], json!([]));

    let pushed = site.push(PLUGINS, SHOP, &first, None);
    assert_eq!(pushed.status, 201, "{pushed:?}");
    let version = &pushed.json()["version"];
    // It has the settings of the one whose place it takes.
    assert_eq!(
        [&version["number"], &version["by"], &version["settings"]],
        [&json!(1), &json!("project"), &json!({ "own": 1 })]
    );
    let pushed = site.push(PLUGINS, OPERATOR, &second, Some(r#"{"x": [1.5]}"#)).json();
    assert_eq!([&pushed["version"]["number"], &pushed["version"]["by"]], [&json!(2), &json!("operator")]);
    assert_eq!(pushed["choice"], json!({ "active": 2, "before": 1, "canary": null }));
    assert_eq!(site.stub.applied.load(Ordering::Relaxed), 2);
    site.push(PLUGINS, SHOP, &component(3, ""), None)
        .says(409, "there are 2 versions already, which is as many as are kept: remove one first");

    let rolled = site.ask("POST", &format!("{PLUGINS}/rollback"), SHOP);
    assert_eq!((rolled.status, &rolled.json()["active"]), (200, &json!(1)));
    let canary = site.ask("POST", &format!("{PLUGINS}/2/activate?canary=10"), SHOP).json();
    assert_eq!(
        canary,
        json!({ "active": 1, "before": 2, "canary": { "version": 2, "percent": 10 }, "pending": false })
    );
    site.ask("DELETE", &format!("{PLUGINS}/2"), SHOP).says(409, "version 2 is in use: activate another one first");
    assert_eq!(site.ask("POST", &format!("{PLUGINS}/0/activate"), SHOP).json()["active"], 0);
    let list = site.ask("GET", PLUGINS, SHOP).json();
    assert_eq!([&list["versions"][0]["number"], &list["versions"][1]["number"]], [1, 2]);
    assert_eq!(list["refusal"], Value::Null);

    let download = site.ask("GET", &format!("{PLUGINS}/1"), SHOP);
    assert_eq!((download.status, &download.body), (200, &first));
    assert!(download.head.contains("content-type: application/wasm"), "{download:?}");
    assert_eq!(site.ask("DELETE", &format!("{PLUGINS}/1"), SHOP).status, 204);
    site.ask("GET", &format!("{PLUGINS}/1"), SHOP).says(404, "there is no version 1: see the list of versions");
    site.ask("GET", &format!("{PLUGINS}/one"), SHOP).says(400, "a version is a number: see the list of versions");
}

#[test]
fn the_check_that_fails_is_said_and_nothing_is_changed() {
    let site = Site::new();
    let good = component(1, "");
    let check = |answer: Answer, status: u16, check: &str, error: &str| {
        let said = answer.json();
        assert_eq!((answer.status, said["check"].as_str()), (status, Some(check)), "{said}");
        assert!(said["error"].as_str().unwrap().contains(error), "{said}");
    };
    let push = |plugin: &[u8], settings: Option<&str>| site.push(PLUGINS, SHOP, plugin, settings);
    check(push(&vec![0; (64 << 10) + 1], None), 413, "size", "it has more than 65536 bytes");
    check(push(&vec![0; 1 << 20], None), 413, "size", "it has more than 65536 bytes");
    check(push(b"\x7fELF", None), 422, "api", "it is compiled machine code");
    check(push(b"\0asm\x01\0\0\0", None), 422, "api", "it is a core module, not a component");
    check(
        push(
            &wat::parse_str(
                r#"(component (instance $i)
        (import "wasi:cli/environment@0.2.0" (instance)) (export "weir:plugin/processor@0.1.0" (instance $i)))"#,
            )
            .unwrap(),
            None,
        ),
        422,
        "imports",
        "`wasi:cli/environment@0.2.0`",
    );
    check(push(&component(65, ""), None), 422, "limits", "it begins with 4259840 bytes of memory");
    check(
        push(
            &wat::parse_str(r#"(component (instance $i) (export "weir:plugin/processor@0.1.0" (instance $i)))"#)
                .unwrap(),
            None,
        ),
        422,
        "compile",
        "",
    );
    check(push(&good, Some("{")), 422, "configure", "the settings are no JSON");
    // What is looked at before them fails before them.
    for settings in ["{", "[]", &format!("\"{}\"", "x".repeat(70_000))] {
        check(push(b"hello", Some(settings)), 422, "api", "it is not WebAssembly, or it is damaged");
    }
    check(push(&good, Some("[]")), 422, "configure", "the settings must be a JSON object");
    check(push(&good, Some(r#"{"wrong": 1}"#)), 422, "configure", "trapped");
    let traps = push(&component(1, "unreachable"), None);
    assert_eq!(traps.json()["report"]["running"]["parsed"], 3);
    check(traps, 422, "dry_run", "it faults on the logstore's last lines");

    push(&good, Some(&format!("\"{}\"", "x".repeat(70_000)))).says(422, "the settings have more than 65536 bytes");
    site.send("POST", PLUGINS, SHOP, "text/plain", &good).json();
    let (kind, body) = multipart(&good, None);
    assert_eq!(site.send("POST", PLUGINS, SHOP, &kind, &body[..body.len() / 2]).status, 400);
    site.send("POST", PLUGINS, SHOP, &kind, b"--BOUND--\r\n").says(400, "the upload has no part `plugin`");
    let twice = [&body[..body.len() - "--BOUND--\r\n".len()], &body].concat();
    site.send("POST", PLUGINS, SHOP, &kind, &twice).says(400, "a part of the upload is there twice");
    assert_eq!(site.push(&format!("{PLUGINS}?canary=100"), SHOP, &good, None).status, 400);
    assert_eq!(site.push(&format!("{PLUGINS}?dryrun=true"), SHOP, &good, None).status, 400);
    site.push("/v1/logstores/shop/two/plugins", SHOP, &good, None).says(
        403,
        "nothing can be uploaded for this logstore: \
        its chain has several plugins, and none is marked with `replaceable: true` in the agent's configuration",
    );
    site.push("/v1/logstores/other/a/plugins", OTHER, &good, None)
        .says(403, "the project's uploads are turned off in the agent's configuration");

    assert_eq!(site.ask("GET", PLUGINS, SHOP).json()["versions"], json!([]));
    assert_eq!(site.stub.applied.load(Ordering::Relaxed), 0);
    assert_eq!(std::fs::read_dir(site.dir.path().join("registry/blobs")).unwrap().count(), 0);

    // What can be kept but not put to work is not chosen.
    site.stub.cannot_apply.store(true, Ordering::Relaxed);
    push(&good, None).says(409, "it could not be put to work, and all is as it was: the lane is gone");
    let list = site.ask("GET", PLUGINS, SHOP).json();
    assert_eq!((&list["choice"]["active"], list["versions"].as_array().unwrap().len()), (&json!(0), 1));
}

#[test]
fn every_verb_against_own_other_and_no_project() {
    let site = Site::new();
    site.push(PLUGINS, OPERATOR, &component(1, ""), None);
    // Method, path, and what the operator gets.
    let of_logstores = [
        ("GET", "", 200),
        ("GET", "/tap?limit=1", 200),
        ("GET", "/log?limit=1", 200),
        ("GET", "/plugins", 200),
        ("POST", "/plugins", 415),
        ("GET", "/plugins/1", 200),
        ("POST", "/plugins/1/activate", 200),
        ("POST", "/plugins/rollback", 200),
        ("DELETE", "/plugins/9", 404),
    ];
    let no_such = site.ask("GET", "/v1/logstores/shop/none", SHOP).body;
    for (method, path, status) in of_logstores {
        let ask = |logstore: &str, token: &str| site.ask(method, &format!("/v1/logstores/{logstore}{path}"), token);
        assert_eq!(ask("shop/a", OPERATOR).status, status, "{method} {path}");
        assert_eq!(ask("shop/a", SHOP).status, status, "{method} {path}");
        for (logstore, token) in [
            ("shop/a", OTHER),
            ("other/a", SHOP),
            ("shop/none", SHOP),
            ("none/a", SHOP),
            ("none/a", OPERATOR),
            ("SHOP/a", OPERATOR),
            ("..%2f..%2fetc/passwd", OPERATOR),
        ] {
            let answer = ask(logstore, token);
            assert_eq!((answer.status, &answer.body), (404, &no_such), "{method} {logstore}{path}");
        }
        for (token, words) in [("", "this needs a token"), ("nobody-nobody-nobody", "this token is nobody's")] {
            let answer = ask("shop/a", token);
            answer.says(401, words);
            assert!(answer.head.contains("www-authenticate: bearer"), "{answer:?}");
        }
    }
    for path in ["/v1/status", "/v1/logstores", "/metrics"] {
        assert_eq!([OPERATOR, SHOP, ""].map(|token| site.ask("GET", path, token).status), [200, 200, 401], "{path}");
    }
    let reload = |token| site.ask("POST", "/v1/reload", token).status;
    assert_eq!([OPERATOR, SHOP, ""].map(reload), [422, 403, 401]);
    for path in ["/healthz", "/readyz", "/v1/openapi.json"] {
        assert_eq!([OPERATOR, SHOP, ""].map(|token| site.ask("GET", path, token).status), [200; 3], "{path}");
    }
    let status = site.ask("GET", "/v1/status", SHOP);
    let seen = status.json();
    let keys = |of: &str| seen[of].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!((keys("projects"), keys("logstores"), keys("sinks")), {
        (vec!["shop".to_owned()], vec!["shop/a".to_owned(), "shop/two".to_owned()], vec!["s".to_owned()])
    });
    assert!(!String::from_utf8_lossy(&status.body).contains("secret"));
    site.ask("GET", "/nothing", "").says(404, "there is nothing of that name");
    site.ask("PUT", "/v1/status", OPERATOR).says(405, "not with this method");
}

#[test]
fn whoever_asks_what_takes_long_holds_up_nobody_else() {
    let site = Site::new();
    site.stub.gate.set(true);
    std::thread::scope(|scope| {
        let shop: Vec<_> = (0..20).map(|_| scope.spawn(|| site.ask("GET", "/v1/status", SHOP).status)).collect();
        site.stub.gate.wait_for(4);
        let operator: Vec<_> = (0..30).map(|_| scope.spawn(|| site.ask("GET", "/metrics", OPERATOR).status)).collect();
        site.stub.gate.wait_for(20);
        for path in ["/healthz", "/readyz"] {
            assert_eq!(["", SHOP, OPERATOR].map(|token| site.ask("GET", path, token).status), [200; 3]);
        }
        assert_eq!(site.ask("GET", "/v1/logstores/other/a", OTHER).status, 200);
        // More of them wait for those, and all are answered.
        assert_eq!(site.stub.gate.state.lock().unwrap().1, 20);
        site.stub.gate.set(false);
        for asked in shop.into_iter().chain(operator) {
            assert_eq!(asked.join().unwrap(), 200);
        }
    });
}

#[test]
fn an_upload_has_its_slot_as_long_as_it_takes_memory() {
    let site = Site::new();
    let plugin = component(1, "");
    site.stub.gate.set(true);
    // Whoever sends it does not wait for the answer.
    let (kind, body) = multipart(&plugin, None);
    let head = format!(
        "POST {PLUGINS} HTTP/1.1\r\nHost: weir\r\nAuthorization: Bearer {SHOP}\r\nContent-Type: {kind}\r\nContent-Length: \
         {}\r\n\r\n",
        body.len()
    );
    let mut stream = site.connect();
    stream.write_all(&[head.as_bytes(), &body].concat()).unwrap();
    site.stub.gate.wait_for(1);
    drop(stream);
    // The server has seen that by the time it has answered many others.
    for _ in 0..50 {
        site.ask("GET", "/healthz", OPERATOR);
    }
    let two = "/v1/logstores/shop/two/plugins";
    site.push(two, SHOP, &plugin, None).says(429, "other uploads are under way");
    site.stub.gate.set(false);
    site.stub.gate.wait_for(0);
    let begun = std::time::Instant::now();
    while site.push(two, SHOP, &plugin, None).status == 429 {
        assert!(begun.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(60));
    }
    assert_eq!(site.stub.applied.load(Ordering::Relaxed), 1);
}

#[test]
fn health_says_more_to_the_operator() {
    let site = Site::new();
    *site.stub.health.lock().unwrap() =
        Health { dead: vec![], unready: vec!["a sink is lost".into()], details: vec!["the configuration".into()] };
    let ask = |path: &str, token: &str| {
        let answer = site.ask("GET", path, token);
        (answer.status, answer.json())
    };
    assert_eq!(ask("/healthz", ""), (200, json!({ "ok": true, "details": [] })));
    assert_eq!(ask("/readyz", ""), (503, json!({ "ok": false, "details": [] })));
    assert_eq!(ask("/readyz", SHOP), (503, json!({ "ok": false, "details": [] })));
    let details = json!({ "ok": false, "details": ["a sink is lost", "the configuration"] });
    assert_eq!(ask("/readyz", OPERATOR), (503, details));
    site.stub.health.lock().unwrap().dead.push("workers stand still".into());
    assert_eq!(ask("/healthz", "").0, 503);
}

#[test]
fn a_tap_ends_after_as_many_events_as_were_asked_for() {
    let site = Site::new();
    let tap = |query: &str| site.ask("GET", &format!("/v1/logstores/shop/a/tap{query}"), SHOP);
    let lines = |answer: Answer| String::from_utf8(answer.body).unwrap().lines().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(lines(tap("?limit=2")), [r#"{"number":0,"before":false}"#, r#"{"number":1,"before":false}"#]);
    assert_eq!(lines(tap("?before=true")).len(), 10);
    for query in ["?limit=0", "?limit=1000001", "?limit=x", "?limits=1"] {
        assert_eq!(tap(query).status, 400, "{query}");
    }
}

#[test]
fn a_log_is_shown_as_far_as_it_goes_or_followed_for_as_many_lines_as_were_asked_for() {
    let site = Site::new();
    for text in ["one", "two\x1b"] {
        site.stub.log.fail(&Limits::default(), "own", text);
    }
    let log = |query: &str| site.ask("GET", &format!("/v1/logstores/shop/a/log{query}"), SHOP);
    let lines = |answer: Answer| {
        let text = String::from_utf8(answer.body).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.map(|line| (line["level"].clone(), line["plugin"].clone(), line["text"].clone())).collect::<Vec<_>>()
    };
    let line = |text: &str| (json!("failure"), json!("own"), json!(text));
    assert_eq!(lines(log("")), [line("one"), line("two\\u{1b}")]);
    assert_eq!(lines(log("?follow=true&limit=2")), [line("one"), line("two\\u{1b}")]);
    assert_eq!(lines(log("?limit=1")), [line("one")]);
    for query in ["?limit=0", "?limit=1000001", "?follow=2", "?before=true"] {
        assert_eq!(log(query).status, 400, "{query}");
    }
}

#[test]
fn who_asks_too_often_waits_and_nobody_else_does() {
    let site = Site::new();
    let until_late = |token: &str| {
        (0..1000).find_map(|count| {
            let answer = site.ask("GET", "/healthz", token);
            (answer.status == 429).then_some((count, answer))
        })
    };
    let (count, answer) = until_late("").unwrap();
    assert!(count >= 40, "{count}");
    answer.says(429, "too many requests");
    assert!(answer.head.contains("retry-after: 1"), "{answer:?}");
    assert_eq!(site.ask("GET", "/healthz", "nobody-nobody-nobody").status, 429);
    assert!(until_late(SHOP).unwrap().0 >= 100);
    assert_eq!(site.ask("GET", "/healthz", OTHER).status, 200);
    assert_eq!(site.ask("GET", "/healthz", OPERATOR).status, 200);
}

#[test]
fn heads_that_are_no_heads_end_their_connection_alone() {
    let site = Site::new();
    let endless = format!("GET /healthz HTTP/1.1\r\nx: {}", "x".repeat(64 << 10));
    for head in ["\0\0\0\0\r\n\r\n", "GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", &endless] {
        let mut stream = site.connect();
        let _ = stream.write_all(head.as_bytes());
        let answer = Answer::read(stream);
        assert!(matches!(answer.status, 0 | 400 | 414 | 431), "{answer:?}");
    }
    assert_eq!(site.ask("GET", "/healthz", "").status, 200);
}

#[test]
fn over_tls_with_and_without_certificates_of_clients() {
    let key = |name: &str| {
        let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    };
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let (server, client) = (key("weir"), key("client"));
    for (name, text) in [("cert", &server.0), ("key", &server.1), ("ca", &client.0)] {
        std::fs::write(at(name), text).unwrap();
    }
    for (more, with_client, works) in
        [("", None, true), (", client_ca: ca", None, false), (", client_ca: ca", Some(&client), true)]
    {
        let more = more.replace(" ca", &format!(" {}", at("ca").display()));
        let tls = format!(", tls: {{ cert: {}, key: {}{more} }}", at("cert").display(), at("key").display());
        let site = Site::with("0.0.0.0:0", &tls, vec![]);
        let port = site.server.address().port();
        let answer = ask_tls(SocketAddr::from(([127, 0, 0, 1], port)), &server.0, with_client);
        assert_eq!(answer.is_some_and(|answer| answer.status == 200), works, "{more}");
        // Whoever does not speak TLS gets nothing.
        let mut plain = connect(SocketAddr::from(([127, 0, 0, 1], port)));
        plain.write_all(b"GET /healthz HTTP/1.1\r\nHost: weir\r\n\r\n").unwrap();
        assert_eq!(Answer::read(plain).status, 0);
    }
    let missing = ServerTls { cert: at("none"), key: at("key"), client_ca: None };
    let error = super::tls::Tls::new(&missing).err().unwrap();
    assert!(format!("{error:#}").starts_with("the admin server's certificate: reading the certificate "), "{error:#}");
}

fn ask_tls(address: SocketAddr, ca: &str, client: Option<&(String, String)>) -> Option<Answer> {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let certificate = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate(ca)).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let builder = builder.with_root_certificates(roots);
    let config = match client {
        None => builder.with_no_client_auth(),
        Some((cert, key)) => {
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
            builder.with_client_auth_cert(vec![certificate(cert)], key).unwrap()
        }
    };
    let mut tls = rustls::ClientConnection::new(Arc::new(config), "weir".try_into().unwrap()).unwrap();
    let mut stream = connect(address);
    let mut stream = rustls::Stream::new(&mut tls, &mut stream);
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: weir\r\nConnection: close\r\n\r\n").ok()?;
    Some(Answer::read(stream))
}

#[test]
fn the_description_is_served_and_has_every_answer_that_there_is() {
    let site = Site::new();
    let served = site.ask("GET", "/v1/openapi.json", "").json();
    assert_eq!(served, serde_json::to_value(openapi()).unwrap());
    let paths = served["paths"].as_object().unwrap();
    let verbs: Vec<_> = paths
        .iter()
        .flat_map(|(path, verbs)| verbs.as_object().unwrap().keys().map(move |verb| format!("{verb} {path}")))
        .collect();
    let expected = [
        "get /healthz",
        "get /metrics",
        "get /readyz",
        "get /v1/logstores",
        "get /v1/logstores/{project}/{logstore}",
        "get /v1/logstores/{project}/{logstore}/log",
        "get /v1/logstores/{project}/{logstore}/plugins",
        "post /v1/logstores/{project}/{logstore}/plugins",
        "post /v1/logstores/{project}/{logstore}/plugins/rollback",
        "get /v1/logstores/{project}/{logstore}/plugins/{version}",
        "delete /v1/logstores/{project}/{logstore}/plugins/{version}",
        "post /v1/logstores/{project}/{logstore}/plugins/{version}/activate",
        "get /v1/logstores/{project}/{logstore}/tap",
        "get /v1/openapi.json",
        "post /v1/reload",
        "get /v1/status",
    ];
    let sorted = |mut list: Vec<String>| {
        list.sort();
        list
    };
    assert_eq!(sorted(verbs), sorted(expected.map(str::to_owned).into()));
    // Each can be asked, and gives an answer that is described.
    for (path, verbs) in paths {
        for (verb, described) in verbs.as_object().unwrap() {
            let path = path.replace("{project}", "shop").replace("{logstore}", "a").replace("{version}", "1");
            for token in [OPERATOR, SHOP, ""] {
                let status = site.ask(&verb.to_ascii_uppercase(), &path, token).status.to_string();
                assert!(described["responses"].get(&status).is_some(), "{verb} {path}: {status}");
            }
        }
    }
}

#[test]
fn a_server_that_is_stopped_is_gone() {
    let site = Site::new();
    let address = site.server.address();
    let open = site.connect();
    drop(site);
    assert!(TcpStream::connect(address).is_err());
    assert_eq!(Answer::read(open).status, 0);
    let admin = Admin { listen: "192.0.2.1:1".parse().unwrap(), token: None, tls: None };
    let dir = tempfile::tempdir().unwrap();
    let stub = Site::new().stub.clone();
    let error = Server::start(&admin, dir.path(), stub).err().unwrap();
    assert!(format!("{error:#}").starts_with("the admin server cannot listen on 192.0.2.1:1: "), "{error:#}");
}
