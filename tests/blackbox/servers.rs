//! Servers for the sinks to send to: stand-ins written in Python (`tests/servers`), and real ones from Debian.
//!
//! A stand-in refuses and records whatever breaks its protocol, and keeps each event that it has acknowledged.

// Sinks bring tests that use what is left.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use serde_json::{Map, Value};
use tempfile::TempDir;

use crate::harness::{POLL, cache_home, repository};

/// Nothing here takes nearly as long on an idle machine.
const DEADLINE: Duration = Duration::from_secs(60);

/// An event that a server has acknowledged.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct Event {
    /// Where it went: project and logstore, index, topic, …
    pub to: Map<String, Value>,
    pub fields: Map<String, Value>,
    pub time_ns: Option<i64>,
    pub tags: BTreeMap<String, Value>,
}

/// A request that a server has answered.
#[derive(Clone, Debug, Deserialize)]
pub struct Request {
    pub method: String,
    pub target: String,
    /// By lower-case name.
    pub headers: BTreeMap<String, String>,
    /// Of its body, as it was sent.
    pub bytes: usize,
    pub status: u16,
    /// How many were stored.
    pub events: usize,
    /// How many requests were being worked on when it began, itself included.
    pub at_once: usize,
}

/// A stand-in that runs. Dropped, it ends.
pub struct Server {
    /// The first port that it listens on.
    pub port: u16,
    /// What it said after `listening on`: other ports, or addresses.
    pub listens: String,
    kind: String,
    args: Vec<String>,
    dir: TempDir,
    child: Option<(Child, ChildStdin)>,
}

impl Server {
    /// Starts `tests/servers/{kind}_server.py` with more arguments, on a free port, and waits until it is ready.
    #[track_caller]
    pub fn start(kind: &str, args: &[&str]) -> Server {
        let dir = tempfile::Builder::new().prefix("weir-server-").tempdir_in(cache_home()).unwrap();
        let args = args.iter().map(|arg| arg.to_string()).collect();
        let kind = kind.to_owned();
        let mut server = Server { port: 0, listens: String::new(), kind, args, dir, child: None };
        server.begin();
        server
    }

    /// The same with TLS, by the certificates of [`certificates`]; with `client_ca` clients need one too.
    #[track_caller]
    pub fn start_tls(kind: &str, client_ca: bool, args: &[&str]) -> Server {
        let certificates = certificates();
        let mut all = vec!["--tls", text(&certificates.server), text(&certificates.server_key)];
        if client_ca {
            all.extend(["--client-ca", text(&certificates.ca)]);
        }
        all.extend(args);
        Server::start(kind, &all)
    }

    #[track_caller]
    fn begin(&mut self) {
        let script = repository().join("tests/servers").join(format!("{}_server.py", self.kind));
        let mut command = python(&script);
        command.args(["--tied", "--port", &self.port.to_string(), "--out"]).arg(self.file("")).args(&self.args);
        let stderr = File::options().append(true).create(true).open(self.file(".stderr")).unwrap();
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(stderr).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let stdin = child.stdin.take().unwrap();
        self.child = Some((child, stdin));
        let listens = line.trim().strip_prefix("listening on ");
        self.listens = listens.unwrap_or_else(|| panic!("{} does not start:\n{}", self.kind, self.stderr())).to_owned();
        let port = self.listens.split([' ', ',']).next().unwrap();
        self.port = port.rsplit(':').next().unwrap().parse().unwrap();
    }

    /// The ports that it listens on.
    pub fn ports(&self) -> Vec<u16> {
        self.listens.split(' ').map(|port| port.parse().unwrap()).collect()
    }

    /// The events that it has acknowledged, in their order.
    pub fn events(&self) -> Vec<Event> {
        self.lines("")
    }

    /// The requests that it has answered, in their order.
    pub fn requests(&self) -> Vec<Request> {
        self.lines(".requests")
    }

    /// What broke the protocol, a line each. Empty when all is well.
    pub fn errors(&self) -> String {
        fs::read_to_string(self.file(".errors")).unwrap_or_default()
    }

    /// What it has said on standard error.
    pub fn stderr(&self) -> String {
        fs::read_to_string(self.file(".stderr")).unwrap_or_default()
    }

    /// Waits until it has acknowledged so many events, or more.
    #[track_caller]
    pub fn wait_for(&self, count: usize) {
        let (mut end, mut lines) = (0, 0);
        self.wait(&format!("{count} events"), |server| {
            let mut new = Vec::new();
            let mut file = File::open(server.file("")).unwrap();
            file.seek(SeekFrom::Start(end)).unwrap();
            file.read_to_end(&mut new).unwrap();
            end += new.len() as u64;
            lines += memchr::memchr_iter(b'\n', &new).count();
            lines >= count
        });
    }

    /// Waits until something is so.
    #[track_caller]
    pub fn wait(&self, what: &str, mut is_so: impl FnMut(&Server) -> bool) {
        let begun = Instant::now();
        while !is_so(self) {
            let is_late = begun.elapsed() > DEADLINE;
            assert!(!is_late, "no {what} at {}; errors:\n{}{}", self.kind, self.errors(), self.stderr());
            thread::sleep(POLL);
        }
    }

    /// Asks it to end, and waits until it has.
    pub fn stop(&mut self) {
        self.end(Signal::TERM);
    }

    /// Ends it at once, wherever it is.
    pub fn kill(&mut self) {
        self.end(Signal::KILL);
    }

    /// Starts it again on its port, with the events that it has. It may run: then it is stopped before.
    #[track_caller]
    pub fn restart(&mut self) {
        self.stop();
        self.begin();
    }

    /// The same with other arguments: a server that is configured anew.
    #[track_caller]
    pub fn restart_with(&mut self, args: &[&str]) {
        self.args = args.iter().map(|arg| arg.to_string()).collect();
        self.restart();
    }

    fn end(&mut self, signal: Signal) {
        if let Some((mut child, _stdin)) = self.child.take() {
            let _ = kill_process(Pid::from_child(&child), signal);
            child.wait().unwrap();
        }
    }

    fn file(&self, suffix: &str) -> PathBuf {
        self.dir.path().join(format!("events{suffix}"))
    }

    fn lines<T: serde::de::DeserializeOwned>(&self, suffix: &str) -> Vec<T> {
        let lines = fs::read_to_string(self.file(suffix)).unwrap();
        // The last may still be written: it is not acknowledged.
        let whole = lines.rfind('\n').map_or("", |end| &lines[..end]);
        whole.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Where certificates and keys are, as PEM.
pub struct Certificates {
    pub dir: PathBuf,
    pub ca: PathBuf,
    /// Of `localhost` and `127.0.0.1`.
    pub server: PathBuf,
    pub server_key: PathBuf,
    pub client: PathBuf,
    pub client_key: PathBuf,
    /// An authority that has signed none of these.
    pub other_ca: PathBuf,
}

/// Certificates of an authority of our own, for a server and a client; made once.
pub fn certificates() -> &'static Certificates {
    static MADE: OnceLock<Certificates> = OnceLock::new();
    MADE.get_or_init(|| {
        let dir = cache_home().join("certificates");
        if !dir.join("ca.pem").exists() {
            let fresh = tempfile::tempdir_in(cache_home()).unwrap();
            make_certificates(fresh.path());
            // Another process may have been faster: then its own are used.
            let _ = fs::rename(fresh.path(), &dir);
        }
        let at = |name: &str| dir.join(name);
        Certificates {
            ca: at("ca.pem"),
            server: at("server.pem"),
            server_key: at("server.key"),
            client: at("client.pem"),
            client_key: at("client.key"),
            other_ca: at("other-ca.pem"),
            dir,
        }
    })
}

fn make_certificates(dir: &Path) {
    let authority = |name: &str| {
        let mut params = CertificateParams::new([]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        (params.self_signed(&key).unwrap().pem(), Issuer::new(params, key))
    };
    let (ca, issuer) = authority("weir tests");
    fs::write(dir.join("ca.pem"), ca).unwrap();
    fs::write(dir.join("other-ca.pem"), authority("somebody else").0).unwrap();
    let server = ("server", vec!["localhost".to_owned(), "127.0.0.1".to_owned()], ExtendedKeyUsagePurpose::ServerAuth);
    for (name, names, usage) in [server, ("client", vec![], ExtendedKeyUsagePurpose::ClientAuth)] {
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages.push(usage);
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().unwrap();
        fs::write(dir.join(format!("{name}.pem")), params.signed_by(&key, &issuer).unwrap().pem()).unwrap();
        fs::write(dir.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    }
}

/// A script with the Python that has what the servers need.
pub fn python(script: &Path) -> Command {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    let python = PYTHON.get_or_init(|| PathBuf::from(set_up(&[])));
    let mut command = Command::new(python);
    // Nothing is written into the repository.
    command.arg(script).env("PYTHONPYCACHEPREFIX", cache_home().join("pycache"));
    command
}

/// Runs `tests/servers/setup.py`, which says what is missing if it cannot make it.
fn set_up(args: &[&str]) -> String {
    let script = repository().join("tests/servers/setup.py");
    let output = Command::new("python3").arg(script).arg(cache_home()).args(args).output();
    let output = output.expect("there is no python3, which the stand-in servers need: apt-get install python3-venv");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the stand-in servers cannot be set up:\n{said}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Runs the tests of a stand-in, which are in Python.
#[cfg(test)]
mod tests {
    use super::*;
    use crate::harness::Site;

    #[track_caller]
    fn passes(name: &str) {
        // Not beside tests that measure.
        let _site = Site::new();
        let script = repository().join("tests/servers").join(format!("test_{name}.py"));
        let output = python(&script).env("WEIR_TEST_CERTIFICATES", &certificates().dir).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        assert!(said.trim_end().ends_with("\nOK"), "some were skipped:\n{said}");
    }

    #[test]
    fn http() {
        passes("http");
    }

    #[test]
    fn a_server_starts_stops_and_comes_again() {
        let mut server = Server::start("http", &[]);
        let port = server.port;
        let send = |n: usize| {
            let body = format!("{{\"seq\":{n}}}\n");
            let head = "POST /x HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-ndjson\r\nConnection: close\r\n";
            let request = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
            let mut answer = String::new();
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
            std::io::Write::write_all(&mut stream, request.as_bytes())?;
            stream.read_to_string(&mut answer)?;
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
            std::io::Result::Ok(())
        };
        send(0).unwrap();
        server.kill();
        assert!(send(1).is_err());
        server.restart();
        assert_eq!(server.port, port);
        send(2).unwrap();
        server.wait_for(2);
        let events = server.events();
        assert_eq!(events.iter().map(|event| event.fields["seq"].as_u64().unwrap()).collect::<Vec<_>>(), [0, 2]);
        assert_eq!(events[0].to["path"], "/x");
        assert_eq!((events[0].time_ns, events[0].tags.len(), server.errors()), (None, 0, String::new()));
        let requests = server.requests();
        assert_eq!((requests.len(), requests[1].status, requests[1].events, requests[1].bytes), (2, 200, 1, 10));
        server.restart_with(&["--fail", "503:1"]);
        assert!(std::panic::catch_unwind(|| send(3)).is_err());
        server.stop();
        assert_eq!(server.events().len(), 2);
    }
}
