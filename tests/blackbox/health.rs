//! What `/healthz` and `weir health` say of an agent that stands still, and when it goes on.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

use crate::disk::private_mount;
use crate::harness::{Site, binary, numbers};
use crate::operate::{Served, serve};

/// An agent that is told sooner than others that it is dead.
fn start<'a>(site: &'a Site, command: Command) -> Served<'a> {
    let mut agent = site.start_with(command, &["-c", "weir.yaml", "--dead-after", "2s"]);
    let address = format!("http://{}", agent.admin());
    Served { site, agent, address }
}

const TOKEN: &str = "operator-operator-operator";

/// Waits until a probe says that it is dead; gives what the operator is told.
fn wait_for_death(served: &mut Served) -> String {
    let address = served.address.clone();
    let mut said = String::new();
    served.agent.wait("an agent that is dead", |site| {
        let done = site.output(["health", "--address", &address, "--token", TOKEN]);
        said = done.stderr.clone();
        said.starts_with("not alive: ")
    });
    // Who has no token is told that it is so, and no more. One that is dead is not ready either.
    for args in [&["health"][..], &["health", "--ready"]] {
        let done = served.site.output(args.iter().chain(&["--address", address.as_str()]));
        done.assert_code(1);
        assert_eq!(done.stderr, if args.len() > 1 { "not ready\n" } else { "not alive\n" });
    }
    said
}

fn wait_for_life(served: &mut Served) {
    let address = served.address.clone();
    served
        .agent
        .wait("an agent that is alive again", |site| site.output(["health", "--address", &address]).status.success());
    assert_eq!(served.ask(&["health", "--ready"]).text(), "ready\n");
}

/// The words of a message, whose numbers are seconds.
fn words(said: &str) -> String {
    said.chars().filter(|c| !c.is_ascii_digit()).collect()
}

#[test]
fn a_worker_that_does_not_end_its_turn_is_dead_until_it_does() {
    let site = Site::new();
    // A turn of many seconds, which nobody should allow a plugin.
    let logstores = "
- name: shop/app
  files: { root: logs }
  plugins: [{ use: weir-evil, settings: { mode: spin }, limits: { fuel_base: 150000000000 } }]
  sink: out";
    serve(&site, &format!(", token: {TOKEN}"), logstores);
    let mut served = start(&site, Command::new(binary()));
    assert_eq!(served.told(&["health"]), "alive\n");
    site.append("logs/app.log", "one\n");
    assert_eq!(words(&wait_for_death(&mut served)), "not alive: a worker has not ended its turn for  s\n");
    wait_for_life(&mut served);
    served.wait_for_settled("shop/app", 1);
    served.agent.stop().assert_counts("shop/app", [1, 1, 1, 0]);
}

#[test]
fn a_checkpoint_that_cannot_be_written_is_the_death_of_an_agent_until_it_can() {
    let Some(flags) = private_mount() else { return };
    let site = Site::new();
    serve(&site, &format!(", token: {TOKEN}"), "- { name: shop/app, files: { root: logs }, sink: out }");
    let script = "mount -t tmpfs -o size=8m none data && exec \"$0\" \"$@\"";
    let mut command = Command::new("unshare");
    command.args(flags).args(["sh", "-c", script]).arg(binary());
    let mut served = start(&site, command);
    assert_eq!(served.told(&["health"]), "alive\n");
    let data = site.path("data");
    let in_the_way: PathBuf = format!("/proc/{}/root{}", served.agent.pid(), data.join("in-the-way").display()).into();
    let mut file = fs::File::create(&in_the_way).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}

    // More positions than there is room for.
    const FILES: usize = 4000;
    for number in 0..FILES {
        site.append(&format!("logs/{number:0200}.log"), numbers(0..1));
    }
    assert_eq!(words(&wait_for_death(&mut served)), "not alive: the checkpoint has not been written for  s\n");
    // Meanwhile all is read and delivered.
    served.agent.wait_for_lines("shop/app", FILES);
    fs::remove_file(&in_the_way).unwrap();
    drop(file);
    wait_for_life(&mut served);
    let events = FILES as u64;
    served.wait_for_settled("shop/app", events);
    let ran = served.agent.stop();
    ran.assert_settled();
    ran.assert_counts("shop/app", [events, events, 0, 0]);
}
