//! Sinks on the network, and servers for them that take everything and keep nothing.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;

use anyhow::{Context, anyhow};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response};
use rdkafka::mocking::MockCluster;

/// What J6 sends to: a name, and the sink, in which `URL`, `GRPC` and `BROKER` stand for the servers.
pub const SINKS: &[(&str, &str)] = &[
    ("http", "{ type: http, url: URL }"),
    ("http, zstd", "{ type: http, url: URL, compression: zstd, compression_level: 1 }"),
    ("elasticsearch", "{ type: elasticsearch, url: URL, index: logs, compression: none }"),
    ("clickhouse", "{ type: clickhouse, url: URL, table: t }"),
    ("otlp", "{ type: otlp, url: URL }"),
    ("otlp, grpc", "{ type: otlp, protocol: grpc, url: GRPC }"),
    ("loki", "{ type: loki, url: URL }"),
    ("kafka", "{ type: kafka, brokers: [BROKER], topic: t }"),
    ("kafka, lz4", "{ type: kafka, brokers: [BROKER], topic: t, compression: lz4 }"),
    ("sls", "{ type: sls, endpoint: URL, region: r, access_key_id: i, access_key_secret: s }"),
    (
        "sls, v1, zstd",
        "{ type: sls, endpoint: URL, signature: v1, access_key_id: i, access_key_secret: s, compression: zstd, \
         compression_level: 1 }",
    ),
];

/// A sink of the list, which leads to these hosts.
pub fn led_to(sink: &str, [http, grpc, broker]: [&str; 3]) -> String {
    let sink = sink.replace("URL", &format!("'http://{http}'"));
    sink.replace("GRPC", &format!("'http://{grpc}'")).replace("BROKER", &format!("'{broker}'"))
}

/// The command of this program that is the servers.
pub const SERVERS: &str = "__sinkhole";

/// Servers that answer every request with 200 and nothing, or with what a bulk request or a call of gRPC is answered
/// with, and librdkafka's own cluster. They are a process of their own, as their memory would be counted as weir's.
pub struct Sinkhole {
    hosts: [String; 3],
    child: Child,
}

impl Sinkhole {
    /// On free ports.
    pub fn start() -> anyhow::Result<Sinkhole> {
        let mut command = Command::new(std::env::current_exe()?);
        let mut child = command.arg(SERVERS).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("it is piped")?).read_line(&mut line)?;
        let hosts: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
        let hosts = hosts.try_into().map_err(|_| anyhow!("the servers for J6 have not started"))?;
        Ok(Sinkhole { hosts, child })
    }

    /// A sink of the list, which leads here.
    pub fn sink(&self, sink: &str) -> String {
        led_to(sink, self.hosts.each_ref().map(String::as_str))
    }
}

impl Drop for Sinkhole {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// Is the servers, until standard input ends.
pub fn serve_all() -> anyhow::Result<()> {
    let kafka = MockCluster::new(1)?;
    println!("{} {} {}", start_http()?, start_grpc()?, kafka.bootstrap_servers());
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    Ok(())
}

/// Answers requests of HTTP/1.1, at the address that is returned.
fn start_http() -> anyhow::Result<String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?.to_string();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // Whoever breaks off is counted by what it delivered.
            thread::spawn(move || drop(serve(stream)));
        }
    });
    Ok(address)
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

/// Bytes that a client of gRPC may send ahead: as much as a payload has.
const WINDOW: u32 = 1 << 20;

/// Answers calls of gRPC, at the address that is returned.
fn start_grpc() -> anyhow::Result<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let listener = runtime.block_on(tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
    let address = listener.local_addr()?.to_string();
    thread::spawn(move || {
        runtime.block_on(async {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve_grpc(stream));
            }
        });
    });
    Ok(address)
}

async fn serve_grpc(stream: tokio::net::TcpStream) -> Result<(), h2::Error> {
    let mut builder = h2::server::Builder::new();
    builder.initial_window_size(WINDOW).initial_connection_window_size(8 * WINDOW);
    let mut connection = builder.handshake(stream).await?;
    while let Some(call) = connection.accept().await {
        let (request, answer) = call?;
        tokio::spawn(answer_call(request.into_body(), answer));
    }
    Ok(())
}

/// An empty message, in its frame, and that all is well.
async fn answer_call(mut body: h2::RecvStream, mut answer: h2::server::SendResponse<Bytes>) -> Result<(), h2::Error> {
    while let Some(data) = body.data().await {
        body.flow_control().release_capacity(data?.len())?;
    }
    let mut head = Response::new(());
    head.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    let mut stream = answer.send_response(head, false)?;
    stream.send_data(Bytes::from_static(&[0; 5]), false)?;
    stream.send_trailers(HeaderMap::from_iter([("grpc-status".parse().expect("a name"), HeaderValue::from(0))]))
}
