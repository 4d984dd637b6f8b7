//! What takes long, and whom it keeps waiting: nobody but those who want it.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{APP, APP_PLUGINS, Client, Managed, OPERATOR, OTHER, SHOP, settings, wasm};
use crate::bombs;
use crate::harness::{Site, beside};

/// A probe gives up after twice as long.
const PROMPT: Duration = Duration::from_secs(1);

const RAW: &str = "- { name: other/raw, files: { root: logs, include: [raw.log] }, sink: out }\n";

#[track_caller]
fn promptly<T>(what: &str, ask: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let answer = ask();
    assert!(begun.elapsed() < PROMPT, "{what}: {:?}", begun.elapsed());
    answer
}

#[test]
fn a_plugin_that_compiles_for_ever_holds_up_nobody_else() {
    let managed = Managed::new(Site::new(), &format!("{APP}{RAW}"));
    let site = &managed.site;
    site.write("plugins/bomb.wasm", bombs::plugin(&[bombs::locals(20_000, 100_000)]));
    let mut agent = managed.start();
    let (health, operator) = (managed.client(None), managed.operator());
    let before = bombs::unfinished(site);
    managed.config(&format!(
        "{APP}- {{ name: shop/bomb, files: {{ root: logs }}, plugins: [{{ use: bomb }}], sink: out }}"
    ));
    agent.wait("compiling", |site| bombs::unfinished(site) != before);
    for _ in 0..20 {
        assert_eq!(promptly("health", || health.ask("GET", "/healthz")).status, 200);
        let status = promptly("status", || operator.get("/v1/status"));
        // What is in force is what was before.
        assert_eq!(status["logstores"].as_object().unwrap().keys().collect::<Vec<_>>(), ["other/raw", "shop/app"]);
    }
    // Nor anybody whose plugin need not be compiled.
    let pushed = operator.push(APP_PLUGINS, &wasm("delimiter"), &settings("v1"));
    assert_eq!(pushed.status, 201, "{}", pushed.text());
    site.append("logs/app.log", "0,x\n");
    agent.wait_for_lines("shop/app", 1);
    assert_eq!(site.events("shop/app")[0]["v1"], "x");
    assert_ne!(bombs::unfinished(site), before, "the bomb is compiled already");
    // It is not waited for at the end, either.
    let begun = Instant::now();
    agent.stop().assert_settled();
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

/// A logstore whose project has used up its CPU time for minutes: its plugin has run out of fuel, with a first line
/// settled nowhere.
fn starve(managed: &Managed) {
    let site = &managed.site;
    let logstores = "
- name: shop/app
  files: { root: logs, include: [app.log] }
  plugins: [{ use: weir-evil, settings: { mode: spin, after: 1 }, limits: { fuel_base: 1000000000 } }]
  sink: far
- { name: other/raw, files: { root: logs, include: [raw.log] }, sink: far }";
    // Nobody listens there.
    site.config_with(logstores, "  far: { type: http, url: 'http://127.0.0.1:9/', batch: { max_age: 50ms } }");
    let text = fs::read_to_string(site.path("weir.yaml")).unwrap();
    let projects = format!("{{ shop: {{ token: {SHOP}, cpu: 1m }}, other: {{ token: {OTHER} }} }}");
    let admin = format!("{{ listen: '127.0.0.1:{}', token: {OPERATOR} }}", managed.port);
    site.write("weir.yaml", format!("admin: {admin}\nprojects: {projects}\n{text}"));
}

fn app(client: &Client) -> Value {
    client.get("/v1/logstores/shop/app")
}

#[test]
fn a_project_that_asks_all_the_time_how_its_starved_lane_is_holds_up_nobody() {
    let managed = Managed::new(Site::new(), APP);
    starve(&managed);
    let site = &managed.site;
    site.append("logs/app.log", "0,x\n");
    let mut agent = managed.start();
    let (health, shop) = (managed.client(None), managed.client(Some(SHOP)));
    agent.wait("the first line on its way", |_| app(&shop)["lag_bytes"] == 4);
    site.append("logs/app.log", "1,x\n".repeat(25_000));
    let had_no_turn = |status: &Value| status["problem"].as_str().is_some_and(|why| why.starts_with("it had no turn"));
    agent.wait("a lane without turns", |_| had_no_turn(&app(&shop)));
    // What was known of it is not forgotten: it lags.
    let lagging = |status: &Value| {
        assert!(had_no_turn(status), "{status}");
        let lag = status["lag_bytes"].as_u64().unwrap();
        assert!((4..=100_004).contains(&lag) && status["files_total"] == 1, "{status}");
        status["lag_seconds"].as_f64().unwrap()
    };
    let first = lagging(&app(&shop));
    agent.wait("more lag", |_| lagging(&app(&shop)) > first + 0.1);

    let flood = |is_done: &std::sync::atomic::AtomicBool| {
        std::thread::scope(|scope| {
            for _ in 0..40 {
                scope.spawn(|| {
                    while !is_done.load(std::sync::atomic::Ordering::Relaxed) {
                        let _ = shop.try_ask("GET", "/v1/status");
                    }
                });
            }
        });
    };
    let ((), ()) = beside(flood, || {
        for _ in 0..20 {
            assert_eq!(promptly("health", || health.ask("GET", "/healthz")).status, 200);
            let status = promptly("another's status", || managed.client(Some(OTHER)).get("/v1/status"));
            assert_eq!(status["logstores"].as_object().unwrap().keys().collect::<Vec<_>>(), ["other/raw"]);
        }
    });

    // What is chosen for it now it comes to later, and whoever chooses it is told.
    let pushed = managed.operator().push(APP_PLUGINS, &wasm("delimiter"), &settings("v1"));
    assert_eq!((pushed.status, &pushed.json()["pending"]), (201, &json!(true)), "{}", pushed.text());
    agent.kill();
}

#[test]
fn a_version_that_does_not_fit_another_configuration_gives_way_to_what_was_before() {
    let managed = Managed::new(Site::new(), APP);
    let site = &managed.site;
    let mut agent = managed.start();
    let pushed = managed.operator().push(APP_PLUGINS, &wasm("delimiter"), &settings("v1"));
    assert_eq!((pushed.status, &pushed.json()["pending"]), (201, &json!(false)), "{}", pushed.text());
    site.append("logs/app.log", "0,x\n");
    agent.wait_for_lines("shop/app", 1);
    managed.config(&format!("{}{RAW}", APP.replace("{ use: delimiter", "{ replaceable: false, use: delimiter")));
    agent.wait_to_say("the configuration is applied: added: other/raw; with other plugins: shop/app; untouched: 0");
    site.append("logs/app.log", "1,x\n");
    agent.wait_for_lines("shop/app", 2);
    let list = managed.operator().get(APP_PLUGINS);
    assert_eq!(list["choice"], json!({ "active": 0, "before": null, "canary": null }));
    let note = list["versions"][0]["note"].as_str().unwrap();
    assert!(note.starts_with("could not be used when the configuration changed: "), "{note}");
    agent.stop().assert_settled();
    let columns = |event: &Value| ["v0", "v1"].map(|name| event[name] == "x");
    assert_eq!(site.events("shop/app").iter().map(columns).collect::<Vec<_>>(), [[false, true], [true, false]]);
}

#[test]
fn a_logstore_that_could_not_run_begins_when_it_can() {
    let managed = Managed::new(Site::new(), APP);
    let site = &managed.site;
    // Each has a sink that nobody else uses.
    let logstores = |more: &str| {
        format!("
- {{ name: other/raw, files: {{ root: logs, include: [raw.log] }}, sink: out }}
- {{ name: shop/app, files: {{ root: logs, include: [app.log] }}, plugins: [{{ use: none }}], sink: second }}
- {{ name: shop/file, files: {{ root: logs, include: [app.log] }}, plugins: [{{ use: late, settings: {{ fields: [number, late] }} }}], sink: third }}{more}")
    };
    let file = "type: file, path: 'out/{project}/{logstore}.ndjson'";
    site.config_with(
        &logstores(""),
        &["out", "second", "third"].map(|name| format!("  {name}: {{ {file} }}\n")).concat(),
    );
    let text = fs::read_to_string(site.path("weir.yaml")).unwrap();
    let admin = format!("{{ listen: '127.0.0.1:{}', token: {OPERATOR} }}", managed.port);
    site.write("weir.yaml", format!("admin: {admin}\n{text}"));
    fs::create_dir_all(site.path("plugins")).unwrap();
    site.append("logs/app.log", "0,x\n");
    let mut agent = managed.start();
    let state = |name: &str| managed.operator().get(&format!("/v1/logstores/{name}"))["state"].clone();
    assert_eq!(["other/raw", "shop/app", "shop/file"].map(state), ["running", "stopped", "stopped"]);

    let pushed = managed.operator().push(APP_PLUGINS, &wasm("delimiter"), &settings("v1"));
    assert_eq!(pushed.status, 201, "{}", pushed.text());
    agent.wait_for_lines("shop/app", 1);
    site.write("new", wasm("delimiter"));
    site.rename("new", "plugins/late.wasm");
    agent.wait_for_lines("shop/file", 1);
    assert_eq!(["other/raw", "shop/app", "shop/file"].map(state), ["running"; 3]);
    assert_eq!(managed.operator().get("/v1/status")["health"]["details"], json!([]));
    agent.stop().assert_settled();
    assert_eq!((&site.events("shop/app")[0]["v1"], &site.events("shop/file")[0]["late"]), (&json!("x"), &json!("x")));
}
