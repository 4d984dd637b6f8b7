//! Every command but the agent itself, and what all of them have in common.

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

use weir::mock::{Generator, LogType};

use crate::harness::{Site, access_log, contents, numbered, numbers, parse};

#[test]
fn every_command_explains_itself() {
    let site = Site::new();
    let alone = ["run", "pipe", "check", "demo", "mock-log", "status", "top", "tap", "health", "reload", "plugin"];
    let of_plugin = [
        "build", "test", "check", "inspect", "bench", "push", "pull", "keygen", "sign", "verify", "list", "activate",
        "rollback", "remove", "download",
    ];
    let of_plugin = of_plugin.map(|command| vec!["plugin", command]);
    let commands = [vec![]].into_iter().chain(alone.map(|command| vec![command])).chain(of_plugin);
    for command in commands {
        let done = site.output(command.iter().chain(&["--help"]));
        done.assert_code(0);
        assert!(done.text().contains("Usage: weir"), "{command:?}: {}", done.text());
        assert_eq!(done.stderr, "", "{command:?}");
    }
    let done = site.output(["--version"]);
    done.assert_code(0);
    assert_eq!(done.text(), format!("weir {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn wrong_usage_exits_with_64_and_says_what_is_wrong() {
    let site = Site::new();
    let wrong: [(&[&str], &str); 19] = [
        (&[], "Usage: weir"),
        (&["ru"], "unrecognized subcommand 'ru'"),
        (&["run", "--until-ide"], "unexpected argument '--until-ide'"),
        (&["run", "-c"], "a value is required for '--config <FILE>'"),
        (&["pipe", "--settings", "{}"], "there are more --settings than --plugin"),
        (&["pipe", "nginx"], "unexpected argument 'nginx'"),
        (&["mock-log", "--log-type", "ngnix"], "invalid value 'ngnix'"),
        (&["mock-log", "--stdout", "--stderr"], "cannot be used with '--stderr'"),
        (&["demo", "--rate", "fast"], "invalid value 'fast'"),
        (&["plugin"], "Usage: weir plugin"),
        (&["status", "Shop"], "must be a project, or PROJECT/LOGSTORE"),
        (&["status", "shop/"], "invalid value 'shop/'"),
        (&["status", "--token", "a", "--token-file", "b"], "cannot be used with"),
        (&["status", "--address", "ftp://there"], "the address must be like http://127.0.0.1:9480"),
        (&["top"], "weir top needs a terminal"),
        (&["tap", "shop/app", "--limit", "0"], "0 is not in 1..=1000000"),
        (&["plugin", "push", "shop/app"], "<FILE.wasm|oci://…>"),
        (&["plugin", "activate", "shop/app", "1", "--canary", "100%"], "must be from 1% to 99%"),
        (&["plugin", "push", "shop/app", "x.wasm", "--dry-run", "--canary", "1%"], "cannot be used with"),
    ];
    for (args, words) in wrong {
        let done = site.output(args);
        done.assert_code(64);
        done.assert_says(words);
        assert_eq!(done.stdout, b"", "{args:?}");
    }
}

#[test]
fn check_finds_nothing_wrong_with_a_good_config() {
    let site = Site::new();
    let logstore = |name, use_| format!("- name: {name}\n  files: {{ root: logs }}\n  plugins: {use_}\n  sink: out\n");
    site.config(
        &(logstore("a/nginx", "[{ use: nginx, settings: { format: main } }]")
            + &logstore("a/json", "[{ use: json }]")
            + "- name: a/raw\n  files: { root: later }\n  sink: screen"),
    );
    let done = site.output(["check", "-c", "weir.yaml"]);
    done.assert_code(0);
    assert_eq!(done.text(), "weir.yaml: no errors (logstores: 3, sinks: 2)\n");
    let root = site.path("later");
    assert_eq!(done.stderr, format!("warning: weir.yaml: a/raw: the root {} does not exist yet\n", root.display()));
    // It looks, and leaves everything as it is.
    assert!(!site.path("out").exists() && !site.path("data/checkpoint.redb").exists());
}

#[test]
fn pipe_without_a_plugin_gives_raw_events() {
    let site = Site::new();
    let done = site.pipe(["pipe"], b"one\r\n\ntwo \xff\nlast");
    done.assert_code(0);
    let expected =
        "{\"content\":\"one\"}\n{\"content\":\"\"}\n{\"content\":\"two \u{fffd}\"}\n{\"content\":\"last\"}\n";
    assert_eq!((done.text(), &*done.stderr), (expected, ""));
    let done = site.pipe(["pipe"], b"");
    done.assert_code(0);
    assert_eq!(done.stdout, b"");
}

#[test]
fn pipe_sends_lines_through_a_chain() {
    let site = Site::new();
    // The second plugin sees what the first left raw, and passes by what it marked.
    let done = site.pipe(
        ["pipe", "--plugin", "weir-evil", "--settings", "{\"mode\":\"behave\"}", "--plugin", "json", "--summary"],
        b"{\"a\":1}\nnot json\n{\"a\":2}\n",
    );
    done.assert_code(0);
    let events = parse(&done.stdout);
    assert_eq!(events.len(), 3);
    assert_eq!((&events[0]["a"], &events[2]["a"]), (&1.into(), &2.into()));
    assert_eq!(events[1]["content"], "not json");
    assert!(events[1]["__error__"].as_str().unwrap().starts_with("json: "));
    done.assert_says("read 3, dropped 0, failed 1\n");
    for name in ["weir-evil: ", "json: "] {
        done.assert_says(name);
    }

    let done = site.pipe(
        [
            "pipe",
            "--plugin",
            "json",
            "--plugin",
            "weir-evil",
            "--settings",
            "{}",
            "--settings",
            "{\"mode\":\"drop-all\"}",
        ],
        b"{\"a\":1}\nnot json\n{\"a\":2}\n",
    );
    done.assert_code(0);
    assert_eq!(contents(&parse(&done.stdout)), ["not json"]);
}

#[test]
fn pipe_ends_quietly_when_nobody_reads_any_more() {
    let site = Site::new();
    let mut child = site
        .weir(["pipe", "--plugin", "nginx", "--settings", "{\"format\":\"main\"}"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let log = access_log(1000);
    let writer = std::thread::spawn(move || while stdin.write_all(&log).is_ok() {});
    // As `head -1` does.
    let mut first = String::new();
    BufReader::new(stdout).read_line(&mut first).unwrap();
    assert_eq!(parse(first.as_bytes()).len(), 1);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
    writer.join().unwrap();
}

#[test]
fn pipe_gives_each_line_as_soon_as_it_can() {
    let site = Site::new();
    let mut child =
        site.weir(["pipe", "--plugin", "json"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
    for number in 0..100 {
        writeln!(stdin, "{{\"n\":{number}}}").unwrap();
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        assert_eq!(line, format!("{{\"n\":{number}}}\n"));
    }
    drop(stdin);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn mock_log_writes_what_its_flags_say() {
    let site = Site::new();
    for (name, kind) in [
        ("nginx", LogType::Nginx),
        ("json", LogType::Json),
        ("java", LogType::Java),
        ("apache", LogType::Apache),
        ("syslog", LogType::Syslog),
    ] {
        let mut expected = Vec::new();
        let mut generator = Generator::new(kind, 7);
        (0..1000).for_each(|_| generator.next(&mut expected));
        let args = ["mock-log", "--log-type", name, "--seed", "7", "--total-count", "1000"];
        let done = site.output(args);
        done.assert_code(0);
        assert!(done.stdout == expected, "{name}");
        assert_eq!(done.stderr, "");
        let on_stderr = site.output(args.iter().chain(&["--stderr"]));
        assert_eq!((&*on_stderr.stderr, &*on_stderr.stdout), (std::str::from_utf8(&expected).unwrap(), &b""[..]));
        // Appends, and does not mind a rate.
        let path = format!("logs/{name}.log");
        site.output(args.iter().chain(&["--path", &path])).assert_code(0);
        site.output(args.iter().chain(&["--path", &path, "--logs-per-sec", "50000"])).assert_code(0);
        assert!(std::fs::read(site.path(&path)).unwrap() == expected.repeat(2), "{name}");
    }
    let all = access_log(1000);
    let bytes = site.output(["mock-log", "--seed", "1", "--total-bytes", "64KiB"]).stdout;
    assert!(bytes.len() >= 64 << 10 && all.starts_with(&bytes) && bytes.ends_with(b"\n"));
    assert!(!bytes[..bytes.len() - 1].ends_with(b"\n") && bytes.len() < (64 << 10) + 1000);

    let done = site.output(["mock-log", "--total-count", "1", "--path", "none/a.log"]);
    done.assert_code(70);
    assert_eq!(done.stderr, "error: cannot write none/a.log: there is no directory none; create it first\n");
}

#[test]
fn mock_log_makes_what_the_nginx_plugin_reads() {
    let site = Site::new();
    let done = site.pipe(["pipe", "--plugin", "nginx", "--settings", "{\"format\":\"main\"}"], &access_log(5000));
    done.assert_code(0);
    let events = parse(&done.stdout);
    assert_eq!(events.len(), 5000);
    assert!(events.iter().all(|event| event.get("__error__").is_none() && event.get("__time__").is_some()));
}

#[test]
fn the_demo_accounts_for_every_event() {
    let site = Site::new();
    let done = site.output(["demo", "--rate", "5000", "--seconds", "1"]);
    done.assert_code(0);
    let row = |name: &str| {
        let line = done.text().lines().find_map(|line| line.trim().strip_prefix(name).map(str::trim));
        line.unwrap_or_else(|| panic!("no {name:?} in:\n{}", done.text()))
    };
    for name in ["events written", "events read", "events delivered", "lines in the output"] {
        assert_eq!(row(name), "5000", "{name}");
    }
    for name in ["lost", "dropped by the plugin", "of them raw, because the parser failed"] {
        assert_eq!(row(name), "0", "{name}");
    }
}

#[test]
fn plugin_build_says_what_a_crate_lacks() {
    let site = Site::new();
    site.write("crate/Cargo.toml", "[package]\nname = \"x\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n[workspace]\n");
    site.write("crate/src/lib.rs", "");
    let done = site.output(["plugin", "build", "crate"]);
    done.assert_code(70);
    assert_eq!(
        done.stderr,
        "error: building the plugin in crate: its Cargo.toml does not make a library for WebAssembly; add\n  \
         [lib]\n  crate-type = [\"cdylib\", \"rlib\"]\n"
    );
    let done = site.output(["plugin", "build", "logs"]);
    done.assert_code(70);
    assert_eq!(
        done.stderr,
        "error: building the plugin in logs: there is no Cargo.toml, pyproject.toml or package.json in it: give the \
         directory of a plugin, or make one\n  weir plugin new NAME --lang rust|python|js\n"
    );
}

#[test]
fn the_sink_stdout_gives_ndjson_and_nothing_else() {
    let site = Site::new();
    site.write("logs/a.log", numbers(0..100));
    let logstore = |name| format!("- name: {name}\n  files: {{ root: logs }}\n  sink: screen\n");
    site.config(&(logstore("a/b") + &logstore("a/c")));
    let ran = site.run();
    let mut all: Vec<u64> = contents(&parse(&ran.stdout)).iter().map(|content| content.parse().unwrap()).collect();
    all.sort();
    let expected: Vec<u64> = numbered(0..100).iter().flat_map(|n| [n.parse().unwrap(); 2]).collect();
    assert_eq!(all, expected);
}

#[test]
fn an_agent_whose_standard_output_is_closed_ends_and_says_so() {
    let site = Site::new();
    site.write("weir.yaml", "data_dir: data\nlogstores:\n- { name: a/b, files: { root: logs }, sink: out }\nsinks: { out: { type: stdout } }\n");
    site.write("logs/a.log", numbers(0..100_000));
    let mut child =
        site.weir(["run", "-c", "weir.yaml"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let done = child.wait_with_output().unwrap();
    assert_eq!(done.status.code(), Some(70));
    let said = String::from_utf8(done.stderr).unwrap();
    assert!(said.ends_with("error: a sink is gone; what was in flight comes again at the next start\n"), "{said}");
}

#[test]
fn an_agent_without_a_logstore_for_its_groups_says_so_and_waits() {
    let site = Site::new();
    site.config("- name: a/b\n  machine_groups: [others]\n  files: { root: logs }\n  sink: out");
    let mut agent = site.start();
    agent.wait_to_say("no logstore of this configuration is for this agent's machine groups, which are: none; those of the configuration are: others.");
    agent.wait_to_say("running");
    // Ended by the signal, and not by itself before.
    agent.stop().assert_code(0);
}
