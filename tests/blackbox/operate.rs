//! Commands that ask a running agent: `status`, `top`, `tap`, `health` and `reload`.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::ffi::OsStrExt;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::harness::{Agent, Done, POLL, Site, binary, numbers, parse};
use crate::servers::certificates;

const OPERATOR: &str = "operator-operator-operator";
const SHOP: &str = "shop-shop-shop-shop";

const LOGSTORES: &str = "
- name: shop/app
  files: { root: logs, include: [app.log] }
  plugins: [{ use: delimiter, settings: { fields: [n, word] } }]
  sink: out
- { name: pay/raw, files: { root: logs, include: [raw.log] }, sink: out }";

/// Writes a configuration with an admin server on any port.
pub fn serve(site: &Site, admin: &str, logstores: &str) {
    site.config(logstores);
    let text = fs::read_to_string(site.path("weir.yaml")).unwrap();
    let admin = format!("admin: {{ listen: '127.0.0.1:0'{admin} }}");
    site.write("weir.yaml", format!("{admin}\nprojects: {{ shop: {{ token: {SHOP} }} }}\n{text}"));
}

/// A running agent, and where it is asked.
pub struct Served<'a> {
    pub site: &'a Site,
    pub agent: Agent<'a>,
    pub address: String,
}

impl<'a> Served<'a> {
    /// Of the configuration that the site has.
    pub fn start(site: &'a Site) -> Self {
        let mut agent = site.start();
        let address = format!("http://{}", agent.admin());
        Served { site, agent, address }
    }

    /// A command that asks it, as whoever may read the operator's token.
    pub fn command(&self, args: &[&str]) -> Command {
        self.site.weir(args.iter().chain(&["-c", "weir.yaml", "--address", &self.address]))
    }

    /// Has it done.
    pub fn ask(&self, args: &[&str]) -> Done {
        self.site.output(args.iter().chain(&["-c", "weir.yaml", "--address", &self.address]))
    }

    /// The same as whoever has that token and no more.
    pub fn ask_with(&self, token: &str, args: &[&str]) -> Done {
        self.site.output(args.iter().chain(&["--address", &self.address, "--token", token]))
    }

    /// What it prints, when all is well.
    #[track_caller]
    pub fn told(&self, args: &[&str]) -> String {
        let done = self.ask(args);
        done.assert_code(0);
        assert_eq!(done.stderr, "");
        done.text().to_owned()
    }

    /// The same of JSON.
    #[track_caller]
    pub fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.told(&[args, &["--json"]].concat())).unwrap()
    }

    /// Waits until it is so.
    #[track_caller]
    pub fn wait_until(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let begun = Instant::now();
        while !is_so(self) {
            assert!(begun.elapsed() < Duration::from_secs(60), "no {what}");
            thread::sleep(POLL);
        }
    }

    /// Waits until so many events of a logstore are settled, and nothing is on its way.
    pub fn wait_for_settled(&mut self, logstore: &str, events: u64) {
        let begun = Instant::now();
        loop {
            let status = self.json(&["status", logstore]);
            let count = |name: &str| status["counts"][name].as_u64().unwrap();
            if count("read") == events && count("in_flight") == 0 && status["lag_bytes"] == 0 {
                return;
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "{logstore} is not settled: {status}");
            thread::sleep(POLL);
        }
    }
}

/// So many lines of `shop/app`.
pub fn lines(range: std::ops::Range<u64>) -> String {
    range.map(|number| format!("{number},word\n")).collect()
}

/// What standard output has of a table, from the line with its title to the next empty line.
fn part<'t>(text: &'t str, title: &str) -> Vec<&'t str> {
    text.lines().skip_while(|line| !line.starts_with(title)).take_while(|line| !line.is_empty()).collect()
}

#[test]
fn a_name_that_is_no_text_hides_nothing() {
    let site = Site::new();
    serve(&site, &format!(", token: {OPERATOR}"), &LOGSTORES.replace("app.log", "'*.log'"));
    site.write("logs/raw.log", "");
    let odd = site.path("logs").join(std::ffi::OsStr::from_bytes(b"odd\xff.log"));
    fs::write(&odd, lines(0..3)).unwrap();
    let mut served = Served::start(&site);
    served.wait_for_settled("shop/app", 3);
    let status = served.json(&["status", "shop/app"]);
    let files: Vec<_> = status["files"].as_array().unwrap().iter().collect();
    let paths: Vec<_> = files.iter().map(|file| file["path"].as_str().unwrap().to_owned()).collect();
    assert!(paths.contains(&odd.to_string_lossy().into_owned()), "{paths:?}");
    served.told(&["status"]);
    served.agent.stop().assert_settled();
}

#[test]
fn a_token_that_two_have_is_nobodys_and_told_of() {
    let site = Site::new();
    serve(&site, &format!(", token: {OPERATOR}"), LOGSTORES);
    let text = fs::read_to_string(site.path("weir.yaml")).unwrap();
    let projects = "shop: { token_file: one }, pay: { token_file: other }";
    site.write("weir.yaml", text.replace(&format!("shop: {{ token: {SHOP} }}"), projects));
    site.write("one", SHOP);
    site.write("other", format!("{SHOP}\n"));
    let mut served = Served::start(&site);
    served.ask_with(SHOP, &["status"]).assert_code(70);
    served.agent.wait_to_say("both have the same token in their files: nobody can use it");
    // Each its own again.
    site.write("other", "pay-pay-pay-pay-pay");
    served.wait_until("token of its own", |served| served.ask_with(SHOP, &["status", "shop"]).status.success());
    served.agent.stop().assert_settled();
}

#[test]
fn what_nobody_reads_is_done_all_the_same() {
    let site = Site::new();
    site.config(LOGSTORES);
    let closed = |args: &str| {
        // Whoever reads is gone before anything is written.
        let weir =
            format!("until [ -e closed ]; do sleep 0.01; done; {:?} {args} -c weir.yaml; echo $? > code", binary());
        let script = format!("rm -f closed; ({weir}) 2>&1 | (exec 0<&-; touch closed); cat code");
        let done = Command::new("sh").args(["-c", &script]).current_dir(site.path("")).output().unwrap();
        String::from_utf8(done.stdout).unwrap()
    };
    assert_eq!(closed("check --no-plugins"), "0\n");
    assert_eq!(closed("dead-letters list"), "0\n");
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let mut check = site.weir(["check", "--no-plugins", "-c", "weir.yaml"]);
    let full = check.stdout(full).stderr(Stdio::piped()).output().unwrap();
    assert_eq!(full.status.code(), Some(70));
    let said = String::from_utf8_lossy(&full.stderr);
    assert!(said.contains("error: standard output cannot be written: No space left"), "{said}");
    let done = site.output(["dead-letters", "replay", "shop/nope", "-c", "weir.yaml"]);
    done.assert_code(64);
    done.assert_says("there is no logstore shop/nope in the configuration");
    site.write("weir.yaml", "nonsense: 1\n");
    assert_eq!(closed("check"), "78\n");
}

#[test]
fn status_shows_what_each_has() {
    let site = Site::new();
    serve(&site, &format!(", token: {OPERATOR}"), LOGSTORES);
    site.append("logs/app.log", lines(0..10) + "only one field\n");
    site.append("logs/raw.log", numbers(0..20));
    let mut served = Served::start(&site);
    served.wait_for_settled("shop/app", 11);
    served.wait_for_settled("pay/raw", 20);

    let all = served.told(&["status"]);
    assert!(all.starts_with(&format!("weir {}, up ", env!("CARGO_PKG_VERSION"))), "{all}");
    let logstores = [
        "LOGSTORE  STATE    LAG  BEHIND  FILES  READ  DELIVERED  RAW  DROPPED  IN FLIGHT",
        "pay/raw   running   0B      0s      1    20         20    0        0          0",
        "shop/app  running   0B      0s      1    11         11    1        0          0",
    ];
    assert_eq!(part(&all, "LOGSTORE"), logstores);
    assert_eq!(part(&all, "SINK"), ["SINK  TYPE  STATE    LAST ERROR", "out   file  working"]);
    assert_eq!(part(&all, "PROJECT").len(), 3);
    assert!(!all.contains('\x1b'), "{all}");
    let plugin = part(&all, "PLUGIN OF")[1].split_whitespace().collect::<Vec<_>>();
    assert_eq!(
        (&plugin[..2], plugin[3], &plugin[5..7], plugin[10]),
        (&["shop/app", "delimiter"][..], "configured", &["running", "11"][..], "1")
    );
    assert!(all.contains("\nshop/app: delimiter failed last: "), "{all}");

    let one = served.told(&["status", "shop/app"]);
    assert_eq!(part(&one, "LOGSTORE")[..2], [logstores[0], logstores[2]]);
    let file = site.path("logs/app.log");
    let size = fs::metadata(&file).unwrap().len();
    let row: Vec<_> = part(&one, "FILE")[1].split_whitespace().map(str::to_owned).collect();
    let size = size.to_string();
    assert_eq!(row, [file.to_str().unwrap(), &size, &size, &size, "0B", "0s"]);
    let project = served.told(&["status", "pay"]);
    assert_eq!(part(&project, "LOGSTORE")[..2], [logstores[0], logstores[1]]);
    served.ask(&["status", "none"]).assert_says("there is no project none");
    assert_eq!(served.json(&["status"])["logstores"].as_object().unwrap().len(), 2);
    assert_eq!(
        served.json(&["status", "pay"])["logstores"].as_object().unwrap().keys().collect::<Vec<_>>(),
        ["pay/raw"]
    );
    served.agent.stop().assert_settled();
}

#[test]
fn a_token_sees_its_own_and_none_is_ever_shown() {
    let site = Site::new();
    serve(&site, "", LOGSTORES);
    let served = Served::start(&site);
    let own = served.ask_with(SHOP, &["status"]);
    own.assert_code(0);
    assert_eq!(part(own.text(), "LOGSTORE").len(), 2);
    assert!(own.text().contains("shop/app") && !own.text().contains("pay"), "{}", own.text());
    served.ask_with(SHOP, &["status", "shop/app"]).assert_code(0);

    let nothing = "error: there is nothing of that name\n  hint: names are those of `weir status`; a token of a project sees that project alone\n";
    let ways = "\n  hint: give --token-file or WEIR_TOKEN; or -c with the agent's configuration, as whoever may read the operator's token in its data_dir\n";
    let not_known = format!("error: the agent does not know the token of --token{ways}");
    let none = format!("error: the agent wants a token, and there is none here{ways}");
    let operators = "error: this needs the operator's token\n";
    let wrong = "wrong-wrong-wrong-wrong";
    let nobody = site.output(["status", "--address", &served.address]);
    for (done, said) in [
        (served.ask_with(SHOP, &["status", "pay/raw"]), nothing),
        (served.ask_with(SHOP, &["tap", "pay/raw"]), nothing),
        (served.ask_with(SHOP, &["tap", "--log", "pay/raw"]), nothing),
        (served.ask_with(SHOP, &["plugin", "list", "pay/raw"]), nothing),
        (served.ask_with(SHOP, &["plugin", "rollback", "pay/raw"]), nothing),
        (served.ask_with(SHOP, &["reload"]), operators),
        (served.ask_with(wrong, &["status"]), &not_known),
        (served.ask_with(wrong, &["tap", "shop/app"]), &not_known),
        (served.ask_with(wrong, &["reload"]), &not_known),
        (nobody, &none),
    ] {
        done.assert_code(70);
        assert_eq!((done.stderr.as_str(), done.stdout.as_slice()), (said, &b""[..]));
    }
    // Wherever the token is from.
    site.write("token", format!("{SHOP}\n"));
    let file = site.path("token");
    site.output(["status", "--address", &served.address, "--token-file", file.to_str().unwrap()]).assert_code(0);
    let mut by_variable = site.weir(["status"]);
    by_variable.env("WEIR_TOKEN", SHOP).env("WEIR_ADDRESS", &served.address);
    assert!(by_variable.output().unwrap().status.success());
    let done = site.output(["status", "--address", "http://10.255.255.1:9480", "--token", SHOP]);
    done.assert_code(64);
    done.assert_says("error: a token would be sent to http://10.255.255.1:9480 for others to read: use https://");
    assert!(!done.stderr.contains(SHOP));
    let help = site.weir(["status", "--help"]).env("WEIR_TOKEN", SHOP).output().unwrap();
    assert!(!String::from_utf8(help.stdout).unwrap().contains(SHOP));
}

#[test]
fn what_answers_and_is_no_agent_is_told_in_words() {
    let site = Site::new();
    site.config(LOGSTORES);
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for command in [&["status"][..], &["tap", "shop/app"], &["reload"], &["plugin", "list", "shop/app"]] {
        let done = site.output(command.iter().copied().chain(["--address", &format!("http://{free}")]));
        done.assert_code(70);
        done.assert_says(&format!("error: no agent is reached at http://{free}: Connection refused"));
        done.assert_says("\n  hint: is weir running, with `admin` in its configuration?");
    }
    let done = site.output(["status", "-c", "weir.yaml"]);
    done.assert_code(64);
    done.assert_says("weir.yaml has no admin server: add `admin: { listen: 127.0.0.1:9480 }` to it, or give --address");
    // Anybody's words, made harmless.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let answers = [
        ("200 OK", "<html>\x1b[2J"),
        ("503 Service Unavailable", "no\x1b[2J"),
        ("403 Forbidden", "{\"error\":\"\u{9b}2J \\u001b[2J\",\"hint\":\"\\u0007\"}"),
    ];
    let server = thread::spawn(move || {
        for (status, body) in answers {
            let (stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream);
            let mut line = String::new();
            while reader.read_line(&mut line).unwrap() > 2 {
                line.clear();
            }
            write!(
                reader.get_mut(),
                "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                body.len()
            )
            .unwrap();
        }
    });
    let strange = format!("error: what answers at {address} is not weir, or another version of it: ");
    for words in [
        format!("{strange}expected value at line 1 column 1\n"),
        format!("{strange}503 Service Unavailable\n"),
        "error: \\u{9b}2J \\u{1b}[2J\n  hint: \\u{7}\n".to_owned(),
    ] {
        let done = site.output(["status", "--address", &address]);
        done.assert_code(70);
        assert_eq!(done.stderr, words);
    }
    server.join().unwrap();
}

/// A tap, whose events come from lines that are written until it has ended.
fn tapped(served: &Served, args: &[&str]) -> Vec<Value> {
    let mut command = served.command(args);
    let mut tap = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    write_until(served.site, &mut tap);
    let output = tap.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
    assert!(output.status.success());
    parse(&output.stdout)
}

fn write_until(site: &Site, tap: &mut Child) {
    let begun = Instant::now();
    while tap.try_wait().unwrap().is_none() {
        assert!(begun.elapsed() < Duration::from_secs(60), "the tap does not end");
        site.append("logs/app.log", lines(7..8));
        thread::sleep(POLL);
    }
}

#[test]
fn a_tap_shows_events_before_and_after_plugins() {
    let site = Site::new();
    serve(&site, "", LOGSTORES);
    let served = Served::start(&site);
    let after = tapped(&served, &["tap", "shop/app", "--limit", "3"]);
    assert_eq!(
        after.iter().map(|event| (&event["n"], &event["word"])).collect::<Vec<_>>(),
        vec![(&json!("7"), &json!("word")); 3]
    );
    let before = tapped(&served, &["tap", "shop/app", "--before", "--limit", "2"]);
    assert_eq!(before.iter().map(|event| &event["content"]).collect::<Vec<_>>(), [&json!("7,word"); 2]);

    // Whoever has seen enough ends it.
    let start = || {
        let mut command = served.command(&["tap", "shop/app", "--limit", "1000000"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let first = |tap: &mut Child| {
        let mut out = BufReader::new(tap.stdout.take().unwrap());
        thread::scope(|scope| {
            let line = scope.spawn(move || out.read_line(&mut String::new()).map(|_| out));
            while !line.is_finished() {
                site.append("logs/app.log", lines(7..8));
                thread::sleep(POLL);
            }
            line.join().unwrap().unwrap()
        })
    };
    let mut tap = start();
    drop(first(&mut tap));
    write_until(&site, &mut tap);
    assert!(tap.wait().unwrap().success());
    let mut tap = start();
    let _out = first(&mut tap);
    kill_process(Pid::from_child(&tap), Signal::INT).unwrap();
    assert!(tap.wait().unwrap().success());
    served.agent.stop();
}

/// What a plugin says of these lines is for who may see them, and for nobody else.
const RUDE: &str = "
- name: shop/app
  files: { root: logs, include: [app.log] }
  plugins: [{ use: weir-rude, settings: { mode: MODE } }]
  sink: out
- { name: pay/raw, files: { root: logs, include: [raw.log] }, sink: out }";

#[test]
fn what_plugins_log_is_shown_to_their_project_alone_and_not_in_the_agents_log() {
    let site = Site::new();
    serve(&site, "", &RUDE.replace("MODE", "talk"));
    site.append("logs/app.log", "one\n");
    let mut served = Served::start(&site);
    served.wait_for_settled("shop/app", 1);
    // What was said before is not lost.
    let shown = |args: &[&str]| {
        let done = served.ask_with(SHOP, &[&["tap", "shop/app", "--log", "--limit"], args].concat());
        done.assert_code(0);
        let lines = parse(&done.stdout).into_iter();
        lines
            .map(|line| ["level", "plugin", "text"].map(|key| line[key].as_str().unwrap().to_owned()))
            .collect::<Vec<_>>()
    };
    let line = |level: &str, text: &str| [level, "weir-rude", text].map(str::to_owned);
    let said = [
        line("debug", "whispered"),
        line("info", "said\\nERROR forged\\u{1b}[2J"),
        line("warn", "warned"),
        line("error", "cried"),
    ];
    let mut expected = said.clone();
    let mut first = shown(&["4"]);
    expected.sort();
    first.sort();
    assert_eq!(first, expected);
    // It goes on with what comes, and with another configuration.
    let mut tap = served.command(&["tap", "shop/app", "--log", "--limit", "6"]);
    let tap = tap.stdout(Stdio::piped()).spawn().unwrap();
    let text = fs::read_to_string(site.path("weir.yaml")).unwrap();
    site.write("weir.yaml", text.replace("mode: talk", "mode: poison"));
    served.told(&["reload"]);
    site.append("logs/app.log", "poison\n");
    let output = tap.wait_with_output().unwrap();
    // What it says of its panic, and what the agent says of it.
    let lines = parse(&output.stdout);
    let (panic, last) = (&lines[4], &lines[5]);
    assert_eq!((&panic["level"], &panic["plugin"]), (&json!("error"), &json!("weir-rude")));
    assert!(panic["text"].as_str().unwrap().contains("swallowed poison"), "{panic}");
    assert_eq!((&last["level"], &last["plugin"], &last["missed"]), (&json!("failure"), &json!("weir-rude"), &json!(0)));
    let why = last["text"].as_str().unwrap();
    assert!(why.starts_with("trapped: panicked at ") && why.contains("swallowed poison"), "{why}");

    let ran = served.agent.stop();
    ran.assert_counts("shop/app", [2, 2, 1, 0]);
    for words in ["whispered", "forged", "warned", "cried", "swallowed"] {
        assert!(!ran.stderr.contains(words), "{}", ran.stderr);
    }
    ran.assert_says("its plugins log: see `weir tap shop/app --log` logstore=\"shop/app\" lines=1\n");
    ran.assert_says("faults on events: it traps; `weir status` says more logstore=\"shop/app\" plugin=\"weir-rude\"");
}

#[test]
fn a_logstore_that_was_taken_out_is_ending_until_what_is_in_flight_settles() {
    let site = Site::new();
    serve(&site, "", LOGSTORES);
    // Nothing can be written there.
    fs::create_dir_all(site.path("out/pay")).unwrap();
    std::os::unix::fs::symlink("/dev/full", site.path("out/pay/raw.ndjson")).unwrap();
    site.append("logs/app.log", lines(0..3));
    let mut served = Served::start(&site);
    served.wait_for_settled("shop/app", 3);
    site.append("logs/raw.log", numbers(0..3));
    served.agent.wait_to_say("cannot write, trying again until it works; nothing is lost: ");
    let sink = served.json(&["status"])["sinks"]["out"].clone();
    assert_eq!((&sink["state"], sink["counts"]["delivered"].as_u64()), (&json!("retrying"), Some(3)));
    assert!(sink["error"].as_str().unwrap().contains("No space left on device"), "{sink}");
    assert!(sink["counts"]["failures"].as_u64().unwrap() > 0);
    let text = fs::read_to_string(site.path("weir.yaml")).unwrap();
    let without: Vec<_> = text.lines().filter(|line| !line.contains("pay/raw")).collect();
    site.write("weir.yaml", without.join("\n"));
    let states = |served: &Served| {
        let status = served.json(&["status"]);
        let logstores = status["logstores"].as_object().unwrap().iter();
        logstores.map(|(name, logstore)| (name.clone(), logstore["state"].clone())).collect::<Vec<_>>()
    };
    let own = ("shop/app".to_owned(), json!("running"));
    served.wait_until("an ending logstore", |served| {
        states(served) == [("pay/raw".to_owned(), json!("ending")), own.clone()]
    });
    served.wait_until("its end", |served| states(served) == [own.clone()]);
    served.agent.stop().assert_counts("shop/app", [3, 3, 0, 0]);
}

#[test]
fn health_is_what_a_probe_asks() {
    let site = Site::new();
    serve(&site, "", LOGSTORES);
    let served = Served::start(&site);
    assert_eq!(served.told(&["health"]), "alive\n");
    assert_eq!(served.told(&["health", "--ready"]), "ready\n");
    // Without a token, and with one that is nobody's.
    for more in [&[][..], &["--token", "wrong-wrong-wrong-wrong"]] {
        let done = site.output(["health", "--address", &served.address].iter().chain(more));
        done.assert_code(0);
        assert_eq!(done.text(), "alive\n");
    }
    // A configuration that is refused is no reason to die, however broken it is.
    let good = fs::read_to_string(site.path("weir.yaml")).unwrap();
    site.write("weir.yaml", good.replace("sink: out }", "sink: nowhere }"));
    served.ask(&["reload"]).assert_code(78);
    let said = served.told(&["health"]);
    assert!(said.starts_with("alive: the configuration was refused, and the one before goes on: "), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    site.write("weir.yaml", "[");
    served.ask(&["health", "--ready"]).assert_code(0);

    served.agent.signal(Signal::STOP);
    let begun = Instant::now();
    let done = served.ask(&["health"]);
    done.assert_code(1);
    assert_eq!(done.stderr, format!("the agent at {} does not answer within 2 s\n", served.address));
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    served.agent.signal(Signal::CONT);
    served.ask(&["health"]).assert_code(0);
    let Served { agent, address, .. } = served;
    agent.kill();
    let done = site.output(["health", "--address", &address]);
    done.assert_code(1);
    assert!(
        done.stderr.starts_with(&format!("no agent is reached at {address}: Connection refused")),
        "{}",
        done.stderr
    );
    assert_eq!((done.stderr.lines().count(), done.stdout.len()), (1, 0));
}

#[test]
fn reload_says_what_changed_or_what_is_wrong() {
    let site = Site::new();
    serve(&site, "", LOGSTORES);
    let mut served = Served::start(&site);
    assert_eq!(served.told(&["reload"]), "unchanged: 2\n");
    let good = fs::read_to_string(site.path("weir.yaml")).unwrap();
    site.write("weir.yaml", good.replace("sink: out }", "sink: nowhere }"));
    let done = served.ask(&["reload"]);
    done.assert_code(78);
    let place = site.path("weir.yaml");
    let line = good.lines().position(|line| line.contains("pay/raw")).unwrap() + 1;
    let file = done.stderr.split(':').next().unwrap().to_owned();
    assert!(place.ends_with(&file), "{}", done.stderr);
    let mut said = done.stderr.lines();
    assert!(said.next().unwrap().starts_with(&format!("{file}:{line}:")), "{}", done.stderr);
    assert_eq!(said.next_back(), Some("the agent goes on with the configuration before"));
    done.assert_says("there is no sink \"nowhere\"");
    assert_eq!(done.stdout, b"");
    let status = served.told(&["status"]);
    assert!(status.contains("wrong: the configuration was refused"), "{status}");

    let new = "- { name: pay/new, files: { root: logs, include: [new.log] }, sink: out }";
    site.write("weir.yaml", good.replace("sinks:", &format!("{new}\nsinks:")));
    // The agent may have seen it first.
    let said = served.told(&["reload"]);
    assert!(["added: pay/new\nunchanged: 2\n", "unchanged: 3\n"].contains(&&*said), "{said}");
    site.append("logs/new.log", numbers(0..3));
    served.wait_for_settled("pay/new", 3);
    site.write("weir.yaml", good);
    let Value::Object(changed) = served.json(&["reload"]) else { panic!("no object") };
    assert_eq!(changed.keys().collect::<Vec<_>>(), ["added", "removed", "changed", "unchanged", "warnings"]);
    assert_eq!(changed["unchanged"], 2);
    served.agent.stop();
}

#[test]
fn over_tls_it_is_the_agent_of_the_configuration_or_none() {
    let site = Site::new();
    let made = certificates();
    let (cert, key) = (made.server.display(), made.server_key.display());
    serve(&site, &format!(", tls: {{ cert: {cert}, key: {key} }}"), LOGSTORES);
    let text = fs::read_to_string(site.path("weir.yaml")).unwrap();
    site.write("weir.yaml", text.replace("127.0.0.1:0", "0.0.0.0:0"));
    let (ca, other_ca) = (made.ca.to_str().unwrap(), made.other_ca.to_str().unwrap());
    let mut agent = site.start();
    // It is asked by an address that its certificate does not have.
    let port = agent.admin().rsplit_once(':').unwrap().1.to_owned();
    let address = format!("https://127.0.0.2:{port}");
    let named = format!("https://localhost:{port}");
    let token = fs::read_to_string(site.path("data/admin.token")).unwrap();
    let token = token.trim();
    site.output(["status", "-c", "weir.yaml", "--address", &address]).assert_code(0);
    site.output(["health", "-c", "weir.yaml", "--address", &address]).assert_code(0);
    site.output(["status", "--ca", ca, "--address", &named, "--token", token]).assert_code(0);
    for (address, more) in [(&named, &[][..]), (&named, &["--ca", other_ca]), (&address, &["--ca", ca])] {
        let done = site.output(["status", "--address", address, "--token", token].iter().chain(more));
        done.assert_code(70);
        done.assert_says("invalid peer certificate");
    }
    let done = site.output(["status", "-c", "weir.yaml", "--address", &address.replace("https", "http")]);
    done.assert_code(70);
    agent.stop();
}

/// Runs it in a terminal of 80 columns, with those keys pressed when it shows a text. Gives all that it wrote.
fn in_a_terminal(served: &Served, prefix: &str, keys: &[(&str, &str)]) -> String {
    let weir =
        format!("{prefix} {} top -c weir.yaml --address {} --interval 200ms", binary().display(), served.address);
    let command = format!("stty cols 80 rows 24; {weir}; echo ended with $?");
    let mut script = Command::new("script");
    script.args(["-qefc", &command, "/dev/null"]).current_dir(served.site.path("")).env("TERM", "xterm-256color");
    let mut child = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut input, mut out) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut seen = Vec::new();
    let mut keys = keys.iter();
    let mut next = keys.next();
    let mut from = 0;
    let mut buffer = [0; 4096];
    loop {
        let count = std::io::Read::read(&mut out, &mut buffer).unwrap_or(0);
        if count == 0 {
            break;
        }
        seen.extend_from_slice(&buffer[..count]);
        while let Some((text, key)) = next
            && String::from_utf8_lossy(&seen[from..]).contains(text)
        {
            from = seen.len();
            input.write_all(key.as_bytes()).unwrap();
            next = keys.next();
        }
    }
    child.wait().unwrap();
    assert!(next.is_none(), "{next:?} was not reached: {}", String::from_utf8_lossy(&seen));
    String::from_utf8_lossy(&seen).into_owned()
}

#[test]
fn top_is_live_and_leaves_the_terminal_as_it_was() {
    const ENTER: &str = "\x1b[?1049h";
    const LEAVE: &str = "\x1b[?1049l";
    let site = Site::new();
    serve(&site, "", LOGSTORES);
    site.append("logs/app.log", lines(0..10));
    let mut served = Served::start(&site);
    served.wait_for_settled("shop/app", 10);
    let seen = in_a_terminal(&served, "", &[("shop/app", "\t"), ("PROJECT", "\t"), ("SINK", "\t"), ("LOGSTORE", "q")]);
    let (before, rest) = seen.split_once(ENTER).unwrap();
    let (shown, after) = rest.split_once(LEAVE).unwrap();
    assert!(!before.contains("shop/app") && shown.contains("pay/raw"), "{seen:?}");
    assert!(after.contains("ended with 0"), "{seen:?}");
    // It is told to end by a signal.
    let seen = in_a_terminal(&served, "timeout --foreground --preserve-status 1", &[("shop/app", "")]);
    let (_, after) = seen.split_once(LEAVE).unwrap();
    assert!(after.contains("ended with 0"), "{seen:?}");
    served.agent.stop();
}
