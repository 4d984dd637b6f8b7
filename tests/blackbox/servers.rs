//! Servers for the sinks to send to: stand-ins written in Python (`tests/servers`), and real ones from Debian.
//!
//! A stand-in refuses and records whatever breaks its protocol, and keeps each event that it has acknowledged.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use serde_json::{Map, Value};
use socket2::Socket;
use tempfile::TempDir;

use crate::harness::{POLL, cache_home, repository};
use crate::proxy::reserve_port;

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
    pub target: String,
    /// By lower-case name.
    pub headers: BTreeMap<String, String>,
    /// Of its body, as it was sent.
    pub bytes: usize,
    pub status: u16,
    /// How many were stored.
    pub events: usize,
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
    /// Its standard input and output are for commands.
    child: Option<(Child, ChildStdin, BufReader<ChildStdout>)>,
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
        if let ("otlp", Some(port)) = (&*self.kind, self.listens.split(' ').nth(1)) {
            command.args(["--grpc-port", port]);
        }
        let stderr = File::options().append(true).create(true).open(self.file(".stderr")).unwrap();
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(stderr).spawn().unwrap();
        let (stdin, stdout) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        self.child = Some((child, stdin, stdout));
        let line = self.next_line();
        let listens = line.strip_prefix("listening on ");
        self.listens = listens.unwrap_or_else(|| panic!("{} does not start:\n{}", self.kind, self.stderr())).to_owned();
        let port = self.listens.split([' ', ',']).next().unwrap();
        self.port = port.rsplit(':').next().unwrap().parse().unwrap();
    }

    fn next_line(&mut self) -> String {
        let mut line = String::new();
        self.child.as_mut().unwrap().2.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    /// Gives a command to a server that takes any, and waits until it is carried out.
    #[track_caller]
    pub fn tell(&mut self, command: &str) {
        writeln!(self.child.as_mut().expect("it runs").1, "{command}").unwrap();
        assert_eq!(self.next_line(), "done", "{command}");
    }

    /// The ports that it listens on.
    pub fn ports(&self) -> Vec<u16> {
        self.listens.split(' ').map(|port| port.parse().unwrap()).collect()
    }

    /// The events that it has acknowledged, in their order.
    pub fn events(&self) -> Vec<Event> {
        self.lines("")
    }

    /// That field of each event, which is a number, sorted: payloads may overtake each other.
    pub fn numbers(&self, field: &str) -> Vec<u64> {
        let number = |event: &Event| event.fields[field].as_str().unwrap().parse().unwrap();
        let mut numbers: Vec<_> = self.events().iter().map(number).collect();
        numbers.sort_unstable();
        numbers
    }

    /// How many events it has acknowledged, given what was counted before.
    pub fn count(&self, counted: &mut Counted) -> u64 {
        let mut new = Vec::new();
        let mut file = File::open(self.file("")).unwrap();
        file.seek(SeekFrom::Start(counted.end)).unwrap();
        file.read_to_end(&mut new).unwrap();
        counted.end += new.len() as u64;
        counted.lines += memchr::memchr_iter(b'\n', &new).count() as u64;
        counted.lines
    }

    /// That field of each event, which is text.
    pub fn fields(&self, field: &str) -> Vec<String> {
        self.events().iter().map(|event| event.fields[field].as_str().unwrap().to_owned()).collect()
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
        let mut counted = Counted::default();
        self.wait(&format!("{count} events"), |server| server.count(&mut counted) >= count as u64);
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
        if let Some((mut child, _stdin, _stdout)) = self.child.take() {
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

/// How far a server's events were counted.
#[derive(Default)]
pub struct Counted {
    end: u64,
    lines: u64,
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
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
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

/// A real server, from a Debian package. Dropped, it ends.
struct Real {
    program: &'static str,
    args: Vec<String>,
    port: u16,
    /// Keep the ports while it does not listen.
    _reserved: Vec<Socket>,
    dir: TempDir,
    child: Option<Child>,
}

impl Real {
    /// Fills in a template: the directory and these names.
    #[track_caller]
    fn new(
        program: &'static str,
        template: &str,
        dir: TempDir,
        reserved: Vec<(Socket, u16)>,
        names: &[(&str, &str)],
    ) -> Real {
        let mut config = fs::read_to_string(repository().join("tests/servers").join(template)).unwrap();
        for (name, value) in names.iter().chain(&[("DIR", text(dir.path()))]) {
            config = config.replace(&format!("@{name}@"), value);
        }
        let file = dir.path().join(template);
        fs::write(&file, config).unwrap();
        let args = match program {
            "nginx" => vec!["-p".to_owned(), text(dir.path()).to_owned(), "-c".to_owned(), text(&file).to_owned()],
            _ => vec![format!("--config-file={}", text(&file))],
        };
        let port = reserved[0].1;
        let _reserved = reserved.into_iter().map(|(socket, _)| socket).collect();
        let mut real = Real { program, args, port, _reserved, dir, child: None };
        real.begin();
        real
    }

    /// Starts it, and waits until it listens.
    #[track_caller]
    fn begin(&mut self) {
        let said = self.dir.path().join("said");
        let log = || File::options().append(true).create(true).open(&said).unwrap();
        // It does not outlive the tests, however they end.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(program(self.program)).args(&self.args);
        command.current_dir(self.dir.path()).stdin(Stdio::null()).stdout(log()).stderr(log());
        let mut child = command.spawn().expect("there is no setpriv, which is in util-linux");
        let begun = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_err() {
            let ended = child.try_wait().unwrap().is_some();
            let said = || fs::read_to_string(&said).unwrap_or_default();
            assert!(!ended && begun.elapsed() < DEADLINE, "{} does not start:\n{}", self.program, said());
            thread::sleep(POLL);
        }
        self.child = Some(child);
    }

    fn end(&mut self, signal: Signal) {
        if let Some(mut child) = self.child.take() {
            let _ = kill_process(Pid::from_child(&child), signal);
            child.wait().unwrap();
        }
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        self.end(Signal::KILL);
    }
}

/// Where a program is. Debian's package of it is installed if it is missing and we are root.
fn program(name: &str) -> PathBuf {
    let find = || {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let dirs = std::env::split_paths(&path).chain(["/usr/sbin".into()]);
        dirs.map(|dir| dir.join(name)).find(|program| program.is_file())
    };
    find().unwrap_or_else(|| {
        set_up(&["--packages"]);
        find().unwrap_or_else(|| panic!("there is no {name}: apt-get install nginx-light clickhouse-server"))
    })
}

/// What nginx asks for and allows.
#[derive(Clone, Copy, Default)]
pub struct Front {
    /// Clients need a certificate of [`certificates`].
    pub client_certificates: bool,
    /// HTTP/2 for whoever can.
    pub http2: bool,
    /// Of a body, in bytes; any, if it is 0. What is longer is answered with 413.
    pub max_body: usize,
}

/// nginx with TLS in front of a server.
pub struct Nginx {
    pub port: u16,
    real: Real,
}

/// Starts nginx, which passes what it gets on to a port.
#[track_caller]
pub fn nginx(upstream: u16, front: Front) -> Nginx {
    let certificates = certificates();
    let reserved = reserve_port();
    let port = reserved.1;
    let dir = tempfile::Builder::new().prefix("weir-nginx-").tempdir_in(cache_home()).unwrap();
    let names = [
        ("PORT", &*port.to_string()),
        ("UPSTREAM", &upstream.to_string()),
        ("CERTIFICATE", text(&certificates.server)),
        ("KEY", text(&certificates.server_key)),
        ("CLIENT_CA", text(&certificates.ca)),
        ("VERIFY", if front.client_certificates { "on" } else { "off" }),
        ("HTTP2", if front.http2 { "http2" } else { "" }),
        ("MAX_BODY", &front.max_body.to_string()),
    ];
    Nginx { port, real: Real::new("nginx", "nginx.conf", dir, vec![reserved], &names) }
}

/// A request that nginx has answered.
#[derive(Clone, Debug, Deserialize)]
pub struct Passed {
    pub protocol: String,
    pub status: u16,
    /// The client's name, if it had a certificate; and whether that was good.
    pub client: String,
    pub verified: String,
    pub body: String,
}

impl Nginx {
    /// The requests that it has answered, in their order. A body that is not UTF-8 is not exact.
    pub fn passed(&self) -> Vec<Passed> {
        let log = fs::read(self.real.dir.path().join("passed.log")).unwrap();
        let log = String::from_utf8_lossy(&log);
        log.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
    }

    /// Stops it, once it has answered what it has.
    pub fn stop(&mut self) {
        self.real.end(Signal::QUIT);
    }

    /// Starts it again, on its port.
    #[track_caller]
    pub fn restart(&mut self) {
        self.stop();
        self.real.begin();
    }
}

/// ClickHouse, with a database of its own. Users: `default`, and `weir` with the password `secret`.
pub struct ClickHouse {
    /// Of HTTP.
    pub port: u16,
    real: Real,
}

/// Starts Debian's ClickHouse, which is an old one.
#[track_caller]
pub fn clickhouse() -> ClickHouse {
    let reserved = vec![reserve_port(), reserve_port()];
    let [port, tcp] = [reserved[0].1, reserved[1].1];
    let dir = tempfile::Builder::new().prefix("weir-clickhouse-").tempdir_in(cache_home()).unwrap();
    let names = [("HTTP_PORT", &*port.to_string()), ("TCP_PORT", &tcp.to_string())];
    ClickHouse { port, real: Real::new("clickhouse-server", "clickhouse.xml", dir, reserved, &names) }
}

impl ClickHouse {
    /// The answer to a query; an error is what it says.
    pub fn query(&self, query: &str) -> Result<String, String> {
        // An answer of HTTP/1.0 ends with the connection.
        let request = format!("POST / HTTP/1.0\r\nContent-Length: {}\r\n\r\n{query}", query.len());
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).map_err(|e| e.to_string())?;
        stream.write_all(request.as_bytes()).map_err(|e| e.to_string())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map_err(|e| e.to_string())?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or("no answer")?;
        if head.split(' ').nth(1) == Some("200") { Ok(body.to_owned()) } else { Err(body.to_owned()) }
    }

    /// The rows of a query, as JSON objects. Numbers of 64 bits are text there.
    #[track_caller]
    pub fn rows(&self, query: &str) -> Vec<Map<String, Value>> {
        let answer = self.query(&format!("{query} FORMAT JSONEachRow")).unwrap();
        answer.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Waits until a table has so many rows, or more.
    #[track_caller]
    pub fn wait_for(&self, table: &str, count: usize) {
        let begun = Instant::now();
        loop {
            let found = self.query(&format!("SELECT count() FROM {table}"));
            if found.as_ref().is_ok_and(|found| found.trim().parse::<usize>().unwrap() >= count) {
                return;
            }
            assert!(begun.elapsed() < DEADLINE, "no {count} rows in {table}, but {found:?}");
            thread::sleep(POLL);
        }
    }

    /// Stops it.
    pub fn stop(&mut self) {
        self.real.end(Signal::TERM);
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        self.real.end(Signal::KILL);
    }

    /// Starts it again on its port, with what it has.
    #[track_caller]
    pub fn restart(&mut self) {
        self.stop();
        self.real.begin();
    }
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
    fn sls() {
        passes("sls");
    }

    #[test]
    fn elasticsearch() {
        passes("elasticsearch");
    }

    #[test]
    fn loki() {
        passes("loki");
    }

    #[test]
    fn otlp() {
        passes("otlp");
    }

    #[test]
    fn kafka() {
        passes("kafka");
    }

    #[test]
    fn kafka_takes_commands_and_otlp_keeps_its_ports() {
        let mut kafka = Server::start("kafka", &["--brokers", "1", "--topic", "logs:2"]);
        assert_eq!(kafka.listens, format!("127.0.0.1:{}", kafka.port));
        kafka.tell("down 1");
        assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, kafka.port)).is_err());
        kafka.tell("up 1");
        TcpStream::connect((Ipv4Addr::LOCALHOST, kafka.port)).unwrap();
        kafka.stop();
        let mut otlp = Server::start("otlp", &[]);
        let ports = otlp.ports();
        otlp.restart();
        assert_eq!((otlp.ports(), ports.len()), (ports, 2));
    }

    #[test]
    fn nginx_passes_on_what_has_a_certificate() {
        let site = Site::new();
        let server = Server::start("http", &[]);
        let front = Front { client_certificates: true, max_body: 100, ..Front::default() };
        let mut nginx = nginx(server.port, front);
        site.write(
            "send.py",
            r#"
import http.client, ssl, sys
port, certificates, numbers, own = int(sys.argv[1]), sys.argv[2], sys.argv[3].split(","), sys.argv[4:]
tls = ssl.create_default_context(cafile=certificates + "/ca.pem")
if own:
    tls.load_cert_chain(certificates + "/client.pem", certificates + "/client.key")
connection = http.client.HTTPSConnection("localhost", port, context=tls)
body = "".join('{"seq":%s}\n' % number for number in numbers)
connection.request("POST", "/in", body, {"Content-Type": "application/x-ndjson"})
print(connection.getresponse().status)
"#,
        );
        let send = |port: u16, numbers: &str, own: &[&str]| {
            let mut command = python(&site.path("send.py"));
            command.arg(port.to_string()).arg(&certificates().dir).arg(numbers).args(own);
            String::from_utf8(command.output().unwrap().stdout).unwrap().trim().to_owned()
        };
        assert_eq!(send(nginx.port, "1,2", &["own"]), "200");
        assert_eq!(send(nginx.port, "3", &[]), "400");
        assert_eq!(send(nginx.port, &["4"; 20].join(","), &["own"]), "413");
        nginx.restart();
        assert_eq!(send(nginx.port, "5", &["own"]), "200");
        let numbers: Vec<_> = server.events().iter().map(|event| event.fields["seq"].as_u64().unwrap()).collect();
        assert_eq!((numbers, server.errors()), (vec![1, 2, 5], String::new()));
        let passed = nginx.passed();
        let statuses: Vec<_> = passed.iter().map(|passed| passed.status).collect();
        assert_eq!(statuses, [200, 400, 413, 200]);
        let first = &passed[0];
        assert_eq!(
            (&*first.body, &*first.client, &*first.verified),
            ("{\"seq\":1}\n{\"seq\":2}\n", "CN=client", "SUCCESS")
        );
    }

    #[test]
    fn clickhouse_keeps_what_is_inserted() {
        let _site = Site::new();
        let mut clickhouse = clickhouse();
        clickhouse.query("CREATE TABLE t (seq UInt32, content String) ENGINE = MergeTree ORDER BY seq").unwrap();
        let insert = r#"INSERT INTO t FORMAT JSONEachRow {"seq":2,"content":"é"} {"seq":1,"content":"a"}"#;
        assert_eq!(clickhouse.query(insert), Ok(String::new()));
        clickhouse.wait_for("t", 2);
        clickhouse.restart();
        let rows = clickhouse.rows("SELECT * FROM t ORDER BY seq");
        assert_eq!(rows.iter().map(|row| row["seq"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(rows[1]["content"], "é");
        let error = clickhouse.query(r#"INSERT INTO t FORMAT JSONEachRow {"seq":3,"more":1}"#).unwrap_err();
        assert!(error.starts_with("Code: 117, "), "{error}");
        clickhouse.kill();
        assert!(clickhouse.query("SELECT 1").is_err());
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
            stream.write_all(request.as_bytes())?;
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
