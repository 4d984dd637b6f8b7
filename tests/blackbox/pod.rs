//! An agent in a pod: what variables say, and when it ends.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use crate::harness::{Agent, Site, binary, numbered, numbers, raw};

const GROUPS: &str = "- name: p/one\n  machine_groups: [one]\n  files: { root: logs }\n  sink: out\n\
                      - name: p/two\n  machine_groups: [two]\n  files: { root: logs }\n  sink: out";

fn weir(variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(binary());
    command.envs(variables.iter().copied());
    command
}

/// The logstores that ran until all was settled.
fn ran_with(site: &Site, variables: &[(&str, &str)]) -> Vec<String> {
    let mut agent = site.start_with(weir(variables), &["--exit-with", "logs/a.log"]);
    agent.wait_to_say("running");
    agent.end().summary.into_keys().collect()
}

/// The tags of a logstore's last event, without those of files.
fn tags(site: &Site) -> Value {
    let mut tags = site.events("a/b").pop().unwrap()["__tags__"].take();
    let tags = tags.as_object_mut().unwrap();
    assert_eq!(tags.remove("path"), Some(json!(site.path("logs/a.log"))));
    assert!(tags.remove("host").is_some());
    Value::Object(std::mem::take(tags))
}

#[test]
fn configuration_and_groups_come_by_either_name() {
    let site = Site::new();
    site.config(GROUPS);
    site.write("logs/a.log", numbers(0..10));
    assert_eq!(
        ran_with(&site, &[("WEIR_CONFIG", "weir.yaml"), ("WEIR_MACHINE_GROUP", "one, two")]),
        ["p/one", "p/two"]
    );
    let (config, groups) = ("ALIYUN_LOGTAIL_CONFIG", "ALIYUN_LOGTAIL_USER_DEFINED_ID");
    assert_eq!(ran_with(&site, &[(config, "weir.yaml"), (groups, "two")]), ["p/two"]);
    let both = [(config, "/none"), ("WEIR_CONFIG", "weir.yaml"), (groups, "two"), ("WEIR_MACHINE_GROUP", "one")];
    assert_eq!(ran_with(&site, &both), ["p/one"]);
    let said = fs::read_to_string(site.path("stderr")).unwrap();
    for expected in [
        "WEIR_CONFIG and ALIYUN_LOGTAIL_CONFIG are different; WEIR_CONFIG is used",
        "WEIR_MACHINE_GROUP and ALIYUN_LOGTAIL_USER_DEFINED_ID are different; WEIR_MACHINE_GROUP is used",
    ] {
        assert_eq!(said.matches(expected).count(), 1, "{said}");
    }
    // An argument wins over both.
    let mut command = weir(&[("WEIR_MACHINE_GROUP", "one"), ("WEIR_CONFIG", "/none")]);
    command.args(["check", "--config", "weir.yaml", "--no-plugins"]).current_dir(site.path(""));
    assert!(command.output().unwrap().status.success());
}

#[test]
fn a_path_of_another_agents_file_is_told_from_a_configuration() {
    let site = Site::new();
    let path = "/etc/ilogtail/conf/cn-hangzhou/ilogtail_config.json";
    let hint = "\nhint: the path comes from ALIYUN_LOGTAIL_CONFIG, which in images of Logtail names a file of Logtail's: \
                mount weir's configuration there, or set WEIR_CONFIG, which wins, to where it is\n";
    let check = |path: &str| {
        let mut command = site.weir(["check"]);
        let output = command.env("ALIYUN_LOGTAIL_CONFIG", path).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, said) = check(path);
    assert_eq!(code, Some(78));
    assert!(said.starts_with(&format!("{path}: cannot be read: ")) && said.ends_with(hint), "{said}");

    site.write("ilogtail_config.json", r#"{ "config_server_address": "http://x", "data_server_list": [] }"#);
    let (code, said) = check("ilogtail_config.json");
    assert_eq!(code, Some(78));
    assert!(said.contains(": config_server_address: unknown key\n") && said.ends_with(hint), "{said}");

    // What is nobody else's needs no hint.
    let mut command = site.weir(["check"]);
    let output = command.env("WEIR_CONFIG", "none.yaml").output().unwrap();
    assert!(!String::from_utf8_lossy(&output.stderr).contains("Logtail"));
}

#[test]
fn the_account_is_a_variable_of_the_configuration_by_either_name() {
    let site = Site::new();
    let sink = "  out: { type: file, path: \"out/${WEIR_USER_ID:?must be given}/{logstore}.ndjson\" }";
    site.config_with("- { name: a/b, files: { root: logs }, sink: out }", sink);
    site.write("logs/a.log", numbers(0..10));
    let agent =
        site.start_with(weir(&[("ALIYUN_LOGTAIL_USER_ID", "1654")]), &["-c", "weir.yaml", "--exit-with", "logs/a.log"]);
    let ran = agent.end();
    ran.assert_says("user_id=\"1654\"");
    ran.assert_counts("a/b", [10, 10, 0, 0]);
    assert!(site.path("out/1654/b.ndjson").is_file());
}

#[test]
fn variables_become_tags_of_every_event() {
    let site = Site::new();
    site.config(&raw(""));
    site.write("logs/a.log", "x\n");
    let pod = [("_pod_name_", "web-0"), ("_namespace_", "shop"), ("other", "not named")];
    for name in ["WEIR_ENV_TAGS", "ALIYUN_LOG_ENV_TAGS"] {
        let list = [(name, "_pod_name_|_pod_ip_,_namespace_")];
        site.append("logs/a.log", "y\n");
        let variables: Vec<_> = pod.into_iter().chain(list).collect();
        let ran = site.start_with(weir(&variables), &["-c", "weir.yaml", "--exit-with", "logs/a.log"]).end();
        ran.assert_says("WEIR_ENV_TAGS names variables that are not set, so there are no such tags: _pod_ip_\n");
        assert_eq!(tags(&site), json!({ "_pod_name_": "web-0", "_namespace_": "shop" }), "{name}");
    }
    assert_eq!(site.contents("a/b"), ["x", "y", "y"]);
}

#[test]
fn tags_that_cannot_be_are_refused() {
    let site = Site::new();
    site.config(&raw(""));
    let output = site.weir(["run", "-c", "weir.yaml"]).env("WEIR_ENV_TAGS", "path|a b").output().unwrap();
    assert_eq!(output.status.code(), Some(78));
    let expected = "the environment: WEIR_ENV_TAGS: \"a b\" cannot be a tag: a name is 1 to 64 of a-z, A-Z, 0-9, `_`, `.` \
                    and `-`\nthe environment: WEIR_ENV_TAGS: \"path\" cannot be a tag: every file has one of that name\n\
                    2 errors in the environment\n";
    assert_eq!(String::from_utf8(output.stderr).unwrap(), expected);
}

/// An agent that ends when `shared/done` is there.
fn until_done<'a>(site: &'a Site, more: &[&str]) -> Agent<'a> {
    let args = [&["-c", "weir.yaml", "--exit-with", "shared/done"], more].concat();
    site.start_with(Command::new(binary()), &args)
}

#[test]
fn a_tombstone_ends_the_agent_when_everything_is_settled() {
    let site = Site::new();
    site.config(
        "- name: a/b\n  files: { root: shared/logs, include: [\"*.log\", \"*.gz\"], poll_interval: 1h }\n  sink: out",
    );
    let text = fs::read_to_string(site.path("weir.yaml")).unwrap();
    let mut agent = until_done(&site, &[]);
    // Neither the root nor the file's directory is there yet.
    agent.wait_to_say("this root does not exist; its files are read when it does");
    agent.wait_to_say("running");
    assert!(agent.stderr().contains(" confined: ") && !text.contains("confine"));
    site.write("shared/logs/a.log", numbers(0..10_000));
    site.write("shared/logs/b.log.1", numbers(10_000..20_000));
    site.gzip("shared/logs/b.log.1");
    // The last line has no end, and is one.
    site.append("shared/logs/a.log", "last");
    site.write("shared/done", "");
    let ran = agent.end();
    ran.assert_settled();
    ran.assert_counts("a/b", [20_001, 20_001, 0, 0]);
    assert!(ran.stderr.contains("shared/done\""), "{}", ran.stderr);
    let mut contents = site.contents("a/b");
    let last = contents.iter().position(|content| content == "last").unwrap();
    contents.remove(last);
    contents.sort_by_key(|number| number.parse::<u64>().unwrap());
    assert!(contents == numbered(0..20_000), "some are lost or doubled");
}

#[test]
fn a_tombstone_that_is_there_already_ends_the_agent_as_well() {
    let site = Site::new();
    site.config(&raw(""));
    site.write("logs/a.log", numbers(0..1000));
    site.write("shared/done", "");
    until_done(&site, &[]).end().assert_counts("a/b", [1000, 1000, 0, 0]);
    assert_eq!(site.contents("a/b"), numbered(0..1000));
    // An agent without logstores, too.
    site.config(GROUPS);
    assert_eq!(until_done(&site, &[]).end().summary.len(), 0);
}

#[test]
fn a_logstore_that_was_left_unread_is_no_success() {
    let site = Site::new();
    site.config(&format!(
        "{}\n- name: a/bad\n  files: {{ root: logs }}\n  plugins: [{{ use: none }}]\n  sink: out",
        raw("")
    ));
    site.write("logs/a.log", numbers(0..10));
    let done = site.output(["run", "-c", "weir.yaml", "--exit-with", "logs/a.log"]);
    done.assert_code(78);
    assert_eq!(site.contents("a/b"), numbered(0..10));
}

#[test]
fn a_signal_ends_an_agent_that_waits_for_a_tombstone() {
    let site = Site::new();
    site.config(&raw(""));
    site.write("logs/a.log", numbers(0..10));
    let mut agent = until_done(&site, &[]);
    agent.wait_for_lines("a/b", 10);
    agent.stop().assert_counts("a/b", [10, 10, 0, 0]);

    // Also one that has seen it, and cannot come to its end: where its directory should be there is a file.
    let site = Site::new();
    site.config(&raw(""));
    site.write("logs/a.log", numbers(0..10));
    site.write("shared/done", "");
    site.write("out", "in the way");
    let mut agent = until_done(&site, &["--grace", "10ms"]);
    agent.wait_to_say("reading what there is to its end");
    agent.wait_to_say("cannot write, trying again until it works");
    assert_eq!(agent.stop().summary["a/b"]["in_flight"], 10);
}

#[test]
fn what_was_written_before_a_signal_is_read_if_that_is_wanted() {
    let site = Site::new();
    // Nothing would be looked at for an hour.
    site.config(&raw("poll_interval: 1h"));
    site.write("logs/a.log", numbers(0..10));
    let args = ["-c", "weir.yaml", "--finish-on-stop", "--grace", "50s"];
    let mut agent = site.start_with(Command::new(binary()), &args);
    agent.wait_for_lines("a/b", 10);
    site.append("logs/a.log", numbers(10..100_000) + "last");
    let ran = agent.stop();
    ran.assert_settled();
    ran.assert_counts("a/b", [100_001, 100_001, 0, 0]);
    assert!(site.contents("a/b").last().is_some_and(|last| last == "last"));
}

#[test]
fn the_grace_is_as_long_as_was_said() {
    let site = Site::new();
    site.write("logs/a.log", numbers(0..10));
    // Where its directory should be there is a file.
    site.write("out", "in the way");
    site.config(&raw(""));
    for more in [&["--grace", "0s"] as &[_], &["--grace", "100ms", "--finish-on-stop"]] {
        let args = [&["-c", "weir.yaml"], more].concat();
        let mut agent = site.start_with(Command::new(binary()), &args);
        agent.wait_to_say("cannot write, trying again until it works");
        let begun = std::time::Instant::now();
        let ran = agent.stop();
        // It would have been ten seconds.
        assert!(begun.elapsed().as_secs() < 8, "{:?}", begun.elapsed());
        assert_eq!((ran.summary["a/b"]["read"], ran.summary["a/b"]["in_flight"]), (10, 10));
        assert_eq!(ran.stderr.contains("not everything could be read"), more.len() > 2);
    }
    for wrong in ["1", "2h", "x"] {
        let done = site.output(["run", "--grace", wrong]);
        done.assert_code(64);
        done.assert_says("must be a duration up to 1h; write 250ms, 10s, 5m, 1h or 7d");
    }
    site.output(["run", "--until-idle", "--exit-with", "x"]).assert_code(64);
}

#[test]
fn a_root_that_differs_by_a_letter_is_told_of_once() {
    let site = Site::new();
    fs::create_dir(site.path("ngin")).unwrap();
    site.config("- name: a/b\n  files: { root: nginx, poll_interval: 20ms }\n  sink: out");
    let hint = format!("{:?} is there; is a letter wrong?", site.path("ngin"));
    let root = site.path("nginx");
    let done = site.output(["check", "-c", "weir.yaml"]);
    done.assert_code(0);
    let warning = format!("warning: weir.yaml: a/b: the root {} does not exist yet\n  hint: {hint}\n", root.display());
    assert_eq!(done.stderr, warning);

    let mut agent = site.start();
    agent.wait_to_say("running");
    site.write("nginx/a.log", numbers(0..10));
    agent.wait_for_lines("a/b", 10);
    let ran = agent.stop();
    let said = format!("this root does not exist; its files are read when it does; {hint} root={root:?}");
    assert_eq!(ran.stderr.matches(&said).count(), 1, "{}", ran.stderr);
    assert_eq!(ran.stderr.matches("this root can be read now").count(), 1, "{}", ran.stderr);
    ran.assert_counts("a/b", [10, 10, 0, 0]);
}
