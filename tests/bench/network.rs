//! Sinks on the network, and a server for them that takes everything and keeps nothing.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;

/// What J6 sends to: a name, and the sink, in which `URL` and `HOST` stand for the server.
pub const SINKS: &[(&str, &str)] = &[
    ("http", "{ type: http, url: URL }"),
    ("http, zstd", "{ type: http, url: URL, compression: zstd, compression_level: 1 }"),
    ("elasticsearch", "{ type: elasticsearch, url: URL, index: logs, compression: none }"),
    ("clickhouse", "{ type: clickhouse, url: URL, table: t }"),
    ("otlp", "{ type: otlp, url: URL }"),
    ("loki", "{ type: loki, url: URL }"),
    ("sls", "{ type: sls, endpoint: URL, region: r, access_key_id: i, access_key_secret: s }"),
    (
        "sls, v1, zstd",
        "{ type: sls, endpoint: URL, signature: v1, access_key_id: i, access_key_secret: s, compression: zstd, \
         compression_level: 1 }",
    ),
];

/// A server that answers every request with 200 and nothing, or what a bulk request is answered with. It runs to the end of the process.
pub struct Sinkhole {
    port: u16,
}

impl Sinkhole {
    /// On a free port.
    pub fn start() -> anyhow::Result<Sinkhole> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // Whoever breaks off is counted by what it delivered.
                thread::spawn(move || drop(serve(stream)));
            }
        });
        Ok(Sinkhole { port })
    }

    /// A sink of the list, which leads here.
    pub fn sink(&self, sink: &str) -> String {
        let host = format!("127.0.0.1:{}", self.port);
        sink.replace("URL", &format!("'http://{host}'")).replace("HOST", &format!("'{host}'"))
    }
}

/// Answers the requests of a connection. Each must say its length.
fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    let mut requests = BufReader::with_capacity(1 << 18, stream.try_clone()?);
    let mut line = String::new();
    loop {
        let (mut length, mut is_bulk) = (0, false);
        loop {
            line.clear();
            if requests.read_line(&mut line)? == 0 {
                return Ok(());
            }
            match line.split_once(':') {
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    length = value.trim().parse().map_err(std::io::Error::other)?;
                }
                _ if line == "\r\n" => break,
                _ if line.contains("/_bulk") => is_bulk = true,
                _ => {}
            }
        }
        std::io::copy(&mut (&mut requests).take(length), &mut std::io::sink())?;
        let body = if is_bulk { r#"{"took":1,"errors":false}"# } else { "" };
        // In one piece: the rest of an answer would wait until the client has confirmed its beginning.
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        stream.write_all(answer.as_bytes())?;
    }
}
