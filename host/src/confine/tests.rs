//! Each test confines a thread of its own, which ends with it.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::net::{TcpListener, TcpStream};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Barrier};
use std::thread;

use rustix::process::{Pid, Signal, geteuid, kill_process};
use rustix::thread::{CapabilitySet, capabilities, capability_is_in_bounding_set};
use tempfile::TempDir;

use super::*;
use crate::config::{self, Config};

/// Confines a thread and has it do something, unless the kernel cannot confine.
fn confined(needs: &Needs, act: impl FnOnce(&Report) + Send) {
    let confined = || {
        let report = confine(needs);
        match report.landlock_abi {
            Some(_) => act(&report),
            None => eprintln!("not tested: {report}"),
        }
    };
    thread::scope(|scope| scope.spawn(confined).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
}

/// A directory with a configuration for `node/logs`, `data` and `out/{project}`.
fn site() -> (TempDir, Config) {
    let site = tempfile::tempdir().unwrap();
    for directory in ["node/logs", "data", "plugins"] {
        fs::create_dir_all(site.path().join(directory)).unwrap();
    }
    fs::write(site.path().join("node/logs/a.log"), "a\n").unwrap();
    fs::write(site.path().join("secret"), "s").unwrap();
    let text = "data_dir: data
plugin_dirs: [plugins, none]
logstores:
- { name: a/b, files: { root: node/logs }, sink: out }
sinks: { out: { type: file, path: \"out/{project}/{logstore}.ndjson\" } }
";
    let name = site.path().join("weir.yaml");
    let config = config::parse(text, name.to_str().unwrap(), &|_| None).unwrap().config;
    (site, config)
}

fn needs(config: &Config) -> Needs {
    Needs::of(config, config.logstores.iter())
}

#[track_caller]
fn denied<T>(result: std::io::Result<T>) {
    assert_eq!(result.err().expect("it is denied").kind(), ErrorKind::PermissionDenied);
}

fn append(path: &Path) -> std::io::Result<()> {
    File::options().create(true).append(true).open(path)?.write_all(b"x\n")
}

#[test]
fn its_own_files_can_be_used_and_no_others() {
    let (site, config) = site();
    let at = |name: &str| site.path().join(name);
    symlink(at("secret"), at("node/logs/link")).unwrap();
    confined(&needs(&config), |_| {
        let logs = at("node/logs");
        assert_eq!(fs::read_to_string(at("node/logs/a.log")).unwrap(), "a\n");
        assert_eq!(fs::read_dir(&logs).unwrap().count(), 2);
        denied(append(&at("node/logs/a.log")));
        denied(append(&at("node/logs/new")));
        denied(fs::remove_file(at("node/logs/a.log")));
        denied(fs::rename(at("node/logs/a.log"), at("data/a.log")));
        denied(fs::read_to_string(at("node/logs/link")));

        fs::create_dir(at("out/a")).unwrap();
        append(&at("out/a/b.ndjson")).unwrap();
        append(&at("out/a/b.ndjson")).unwrap();
        File::options().write(true).open(at("out/a/b.ndjson")).unwrap().set_len(2).unwrap();
        assert_eq!(fs::read_to_string(at("out/a/b.ndjson")).unwrap(), "x\n");
        denied(fs::remove_file(at("out/a/b.ndjson")));

        fs::create_dir(at("data/cache")).unwrap();
        fs::write(at("data/cache/new"), "x").unwrap();
        fs::rename(at("data/cache/new"), at("data/old")).unwrap();
        fs::remove_file(at("data/old")).unwrap();
        fs::remove_dir(at("data/cache")).unwrap();
        denied(symlink("/", at("data/link")));

        assert_eq!(fs::read_dir(at("plugins")).unwrap().count(), 0);
        denied(append(&at("plugins/new.wasm")));
        for outside in ["/etc/passwd", "/proc/self/environ", "/dev/null"] {
            denied(fs::read(outside));
        }
        denied(fs::read_dir("/").map(drop));
        denied(fs::read(at("secret")));
        denied(append(&at("secret")));
        denied(append(&at("new")));
    });
    assert!(!at("new").exists());
}

#[test]
fn a_root_may_come_and_go() {
    let (site, mut config) = site();
    let at = |name: &str| site.path().join(name);
    Arc::make_mut(&mut config.logstores[0]).files.root = at("later/logs");
    let root = at("node/logs");
    config.logstores.push(config::Logstore { name: "a/c".parse().unwrap(), ..(*config.logstores[0]).clone() }.into());
    Arc::make_mut(&mut config.logstores[1]).files.root = root.clone();
    let needs = needs(&config);
    let [is_confined, is_changed] = [(); 2].map(|()| Barrier::new(2));
    thread::scope(|scope| {
        scope.spawn(|| {
            confine(&needs);
            is_confined.wait();
            is_changed.wait();
            assert_eq!(fs::read_to_string(at("later/logs/a.log")).unwrap(), "later");
            assert_eq!(fs::read_to_string(at("node/logs/a.log")).unwrap(), "again");
        });
        is_confined.wait();
        fs::remove_dir_all(&root).unwrap();
        for (root, text) in [(at("later/logs"), "later"), (root.clone(), "again")] {
            fs::create_dir_all(&root).unwrap();
            fs::write(root.join("a.log"), text).unwrap();
        }
        is_changed.wait();
    });
}

#[test]
fn no_port_is_reached_but_those_that_are_needed() {
    let (_site, config) = site();
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let ports = listeners.each_ref().map(|listener| listener.local_addr().unwrap().port());
    let mut needs = needs(&config);
    needs.connect.insert(ports[1]);
    confined(&needs, |report| {
        if report.confined.contains(&Realm::Tcp) {
            denied(TcpStream::connect(("127.0.0.1", ports[0])));
            denied(TcpListener::bind("127.0.0.1:0"));
            TcpStream::connect(("127.0.0.1", ports[1])).unwrap();
        }
    });
}

#[test]
fn no_process_is_reached_but_its_own() {
    let (_site, config) = site();
    let name = format!("weir-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(name).unwrap();
    let _listener = UnixListener::bind_addr(&address).unwrap();
    let mut other = Command::new("sleep").arg("60").spawn().unwrap();
    let pid = Pid::from_child(&other);
    confined(&needs(&config), |report| {
        denied(Command::new("/bin/true").status());
        // Itself, with the libraries that it needs.
        let mut own = Command::new("/proc/self/exe");
        own.arg("--list").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        assert!(own.output().unwrap().status.success());
        let mut child = own.spawn().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        if report.confined.contains(&Realm::Processes) {
            denied(UnixStream::connect_addr(&address));
            denied(kill_process(pid, Signal::TERM).map_err(Into::into));
        }
    });
    other.kill().unwrap();
    other.wait().unwrap();
}

#[test]
fn who_is_locked_up_has_only_what_is_open() {
    let mut file = tempfile::tempfile().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            let report = lock_up();
            file.write_all(b"x").unwrap();
            assert_eq!(capabilities(None).unwrap().permitted, CapabilitySet::empty());
            if report.landlock_abi.is_some() {
                denied(fs::read("/etc/passwd"));
                denied(tempfile::tempfile());
                denied(Command::new("/proc/self/exe").arg("--list").stdin(Stdio::piped()).status());
            }
        });
    });
}

#[test]
fn capabilities_are_dropped_but_for_what_is_needed() {
    if !geteuid().is_root() {
        return;
    }
    let (site, config) = site();
    let expect = |kept: CapabilitySet| {
        confined(&needs(&config), |report| {
            let own = capabilities(None).unwrap();
            assert_eq!((own.effective, own.permitted, own.inheritable), (kept, kept, CapabilitySet::empty()));
            let bounded =
                CapabilitySet::all().iter().filter(|one| capability_is_in_bounding_set(*one).unwrap_or(false));
            assert_eq!(bounded.collect::<CapabilitySet>(), kept);
            assert!(rustix::thread::no_new_privs().unwrap() && report.no_new_privileges);
        });
    };
    expect(CapabilitySet::DAC_READ_SEARCH);
    // A file of somebody else in a directory of our own.
    fs::create_dir_all(site.path().join("out/a")).unwrap();
    let file = site.path().join("out/a/b.ndjson");
    fs::write(&file, "").unwrap();
    chown(&file, Some(12345), None).unwrap();
    expect(CapabilitySet::DAC_READ_SEARCH | CapabilitySet::DAC_OVERRIDE);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
    expect(CapabilitySet::DAC_READ_SEARCH);
    chown(site.path().join("data"), Some(12345), None).unwrap();
    expect(CapabilitySet::DAC_READ_SEARCH | CapabilitySet::DAC_OVERRIDE);
}

#[test]
fn no_more_than_is_needed_is_granted() {
    let (site, mut config) = site();
    let real = fs::canonicalize(site.path()).unwrap();
    let found = needs(&config);
    assert!(found.read.contains(&real.join("node")) && found.read.contains(&real.join("plugins")));
    assert!(!found.read.contains(&real));
    assert_eq!(found.write, [real.join("out")].into());
    assert_eq!(found.own, [real.join("data")].into());
    assert!(found.run.contains(Path::new("/proc/self/exe")));
    assert_eq!(found.gaps, [""; 0]);

    // What is beside a root in a directory of the system is not for us.
    Arc::make_mut(&mut config.logstores[0]).files.root = "/var/log".into();
    let found = needs(&config);
    assert!(found.read.contains(&fs::canonicalize("/var/log").unwrap()) && !found.read.contains(Path::new("/var")));
    Arc::make_mut(&mut config.logstores[0]).files.root = "/no-such-root".into();
    let found = needs(&config);
    assert!(found.read.contains(Path::new("/")));
    assert_eq!(found.gaps, ["reading files: the root /no-such-root is not there, and neither is what is above it"]);

    // A device by itself, not its directory.
    let full = config::PathTemplate::parse("/dev/full", Path::new("/")).unwrap();
    config.sinks.insert("out".into(), config::Sink::File(Box::new(config::sinks::File::plain(full))));
    assert_eq!(needs(&config).write, ["/dev/full".into()].into());
}

#[test]
fn only_files_that_are_rotated_can_be_renamed_and_removed() {
    let (site, mut config) = site();
    let at = |name: &str| site.path().join(name);
    let path = config::PathTemplate::parse("out/{project}/{date}.ndjson", site.path()).unwrap();
    let rotate = config::sinks::Rotate { size: 1 << 20, age: None, keep: 1 };
    let rotated = config::sinks::File { rotate: Some(rotate), ..config::sinks::File::plain(path) };
    config.sinks.insert("out".into(), config::Sink::File(Box::new(rotated)));
    let found = needs(&config);
    let real = fs::canonicalize(site.path()).unwrap();
    assert_eq!((found.write.len(), &found.rotate), (0, &[real.join("out")].into()));
    confined(&found, |_| {
        fs::create_dir(at("out/a")).unwrap();
        append(&at("out/a/b")).unwrap();
        fs::rename(at("out/a/b"), at("out/a/c")).unwrap();
        assert_eq!(fs::read_dir(at("out/a")).unwrap().count(), 1);
        fs::remove_file(at("out/a/c")).unwrap();
        denied(fs::rename(at("node/logs/a.log"), at("out/a.log")));
        denied(symlink("/", at("out/link")));
    });

    // Where it is not known what is beside it, all is granted, and said.
    let path = config::PathTemplate::parse("/var/{date}.ndjson", site.path()).unwrap();
    config.sinks.insert("out".into(), config::Sink::File(Box::new(config::sinks::File::plain(path))));
    let found = needs(&config);
    assert_eq!(found.write, [fs::canonicalize("/var").unwrap()].into());
    assert_eq!(found.gaps, ["writing files: all of /var, as a sink's file in it has a date in its name"]);
}

#[test]
fn the_admin_server_needs_its_port_and_its_files() {
    let (site, mut config) = site();
    let at = |name: &str| site.path().join(name);
    for dir in ["tls", "tokens", "config"] {
        fs::create_dir(at(dir)).unwrap();
    }
    for file in ["tls/cert.pem", "tls/key.pem", "tokens/a", "config/weir.yaml"] {
        fs::write(at(file), file).unwrap();
    }
    let before = needs(&config);
    let tls = config::ServerTls { cert: at("tls/cert.pem"), key: at("tls/key.pem"), client_ca: None };
    config.admin = Some(config::Admin { listen: "127.0.0.1:9480".parse().unwrap(), token: None, tls: Some(tls) });
    let project = config::Project { token: Some(config::Secret::File(at("tokens/a"))), ..config::Project::default() };
    config.projects.insert("a".into(), project);
    let mut found = needs(&config);
    found.add_file(&at("config/weir.yaml"));
    assert_eq!(found.listen, [9480].into());
    let real = fs::canonicalize(site.path()).unwrap();
    for dir in ["tls", "tokens", "config"] {
        assert!(found.read.contains(&real.join(dir)), "{dir}");
    }
    // Who was confined without it cannot have it later.
    let lacking: Vec<_> = ["config", "config/weir.yaml", "tls", "tls/cert.pem", "tls/key.pem", "tokens", "tokens/a"]
        .map(|path| format!("reading {}", real.join(path).display()))
        .into_iter()
        .chain(["listening on port 9480".to_owned()])
        .collect();
    assert_eq!(found.lacking(&before), lacking);
    assert_eq!(before.lacking(&found), [""; 0]);
}

#[test]
fn what_a_process_cannot_have_any_more_is_said() {
    let paths = |paths: &[&str]| paths.iter().map(std::path::PathBuf::from).collect();
    let granted = Needs {
        read: paths(&["/logs/a"]),
        run: paths(&["/lib"]),
        write: paths(&["/out"]),
        rotate: paths(&["/rotated"]),
        own: paths(&["/data"]),
        connect: [80, 443].into(),
        ..Needs::default()
    };
    assert_eq!(granted.lacking(&granted), [""; 0]);
    let inner = Needs {
        read: paths(&["/logs/a/b", "/lib/x", "/out/x", "/rotated", "/data/x"]),
        write: paths(&["/out/y", "/rotated/y", "/data"]),
        rotate: paths(&["/rotated/y", "/data"]),
        ..Needs::default()
    };
    assert_eq!(inner.lacking(&granted), [""; 0]);
    let more = Needs {
        read: paths(&["/logs/ab", "/logs"]),
        run: paths(&["/data/program"]),
        write: paths(&["/logs/a"]),
        rotate: paths(&["/out/x"]),
        own: paths(&["/rotated"]),
        connect: [80, 8080].into(),
        connects_anywhere: true,
        listen: [9480].into(),
        ..Needs::default()
    };
    let lacking = [
        "reading /logs",
        "reading /logs/ab",
        "running /data/program",
        "writing to /logs/a",
        "rotating files in /out/x",
        "keeping its own files in /rotated",
        "connecting to port 8080",
        "connecting to any port",
        "listening on port 9480",
    ];
    assert_eq!(more.lacking(&granted), lacking);
    let anywhere = Needs { connects_anywhere: true, ..Needs::default() };
    assert_eq!(Needs { connect: [1].into(), ..Needs::default() }.lacking(&anywhere), [""; 0]);
}

#[test]
fn a_report_says_what_is_confined_and_what_not() {
    let report = |abi| {
        let mut report = Report { no_new_privileges: true, ..Report::default() };
        report.add_landlock(abi);
        report
    };
    let modern = Report { capabilities: vec!["dac_read_search".into()], ..report(7) };
    assert_eq!(
        modern.to_string(),
        "files, truncation, TCP, signals and abstract sockets by Landlock (ABI 7), capabilities: dac_read_search, \
         no new privileges"
    );
    assert_eq!(
        report(3).to_string(),
        "files, truncation by Landlock (ABI 3), capabilities: none, no new privileges; not confined: TCP, signals and \
         abstract sockets: this kernel's Landlock has ABI 3, and 6 is needed, of Linux 6.12"
    );
    assert_eq!(
        report(0).to_string(),
        "capabilities: none, no new privileges; not confined: files, truncation, TCP, signals and abstract sockets: \
         this kernel has no Landlock, or it is turned off"
    );
    assert_eq!(serde_json::to_value(report(4)).unwrap()["confined"], serde_json::json!(["files", "truncation", "tcp"]));
}
