//! Asks the admin server, a connection for each question.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::thread;
use std::time::Duration;

use serde_json::Value;

/// Nothing here takes nearly as long.
const PATIENCE: Duration = Duration::from_secs(60);

const BOUNDARY: &str = "a-boundary-that-is-in-no-plugin";

#[derive(Clone, Copy)]
pub struct Client {
    pub port: u16,
    pub token: Option<&'static str>,
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

impl Client {
    #[track_caller]
    pub fn ask(&self, method: &str, path: &str) -> Answer {
        self.try_ask(method, path).unwrap()
    }

    /// What is answered with 200.
    #[track_caller]
    pub fn get(&self, path: &str) -> Value {
        let answer = self.ask("GET", path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json()
    }

    pub fn try_ask(&self, method: &str, path: &str) -> io::Result<Answer> {
        self.send(method, path, "", b"")
    }

    #[track_caller]
    pub fn push(&self, path: &str, plugin: &[u8], settings: &Value) -> Answer {
        self.try_push(path, plugin, settings).unwrap()
    }

    pub fn try_push(&self, path: &str, plugin: &[u8], settings: &Value) -> io::Result<Answer> {
        let part = |name: &str| {
            format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"x\"\r\n\r\n")
        };
        let mut body = part("plugin").into_bytes();
        body.extend_from_slice(plugin);
        body.extend_from_slice(format!("\r\n{}{settings}\r\n--{BOUNDARY}--\r\n", part("settings")).as_bytes());
        self.send("POST", path, &format!("Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n"), &body)
    }

    /// Asks again, where it has asked too often.
    fn send(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> io::Result<Answer> {
        loop {
            let answer = self.send_once(method, path, headers, body)?;
            if answer.status != 429 {
                return Ok(answer);
            }
            thread::sleep(Duration::from_millis(100));
        }
    }

    fn send_once(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> io::Result<Answer> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let len = body.len();
        let head = format!("{}Connection: close\r\n{headers}Content-Length: {len}\r\n\r\n", self.head(method, path));
        stream.write_all(&[head.as_bytes(), body].concat())?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes)?;
        Answer::parse(&bytes).ok_or_else(|| io::Error::other("no answer"))
    }

    /// The beginning of a request.
    pub fn head(&self, method: &str, path: &str) -> String {
        let token = self.token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
        format!("{method} {path} HTTP/1.1\r\nHost: weir\r\n{token}")
    }
}

impl Answer {
    /// None if it ends early.
    fn parse(bytes: &[u8]) -> Option<Answer> {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
        let head = std::str::from_utf8(&bytes[..end]).ok()?.to_ascii_lowercase();
        let rest = &bytes[end + 4..];
        let body = match head.contains("transfer-encoding: chunked") {
            true => whole(rest)?,
            false => rest.to_vec(),
        };
        let len = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
        let status = head.split(' ').nth(1)?.parse().ok()?;
        len.is_none_or(|len: usize| len == body.len()).then_some(Answer { status, body })
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }
}

/// What comes in chunks, if its end is there.
fn whole(mut chunks: &[u8]) -> Option<Vec<u8>> {
    let mut all = Vec::new();
    loop {
        let end = chunks.windows(2).position(|two| two == b"\r\n")?;
        let len = usize::from_str_radix(std::str::from_utf8(&chunks[..end]).ok()?, 16).ok()?;
        all.extend_from_slice(chunks.get(end + 2..end + 2 + len)?);
        if len == 0 {
            return Some(all);
        }
        chunks = chunks.get(end + 4 + len..)?;
    }
}
