//! A TCP proxy that breaks what passes, in every way that a network or a server does.
//!
//! In plain HTTP/1.1 it knows where requests begin and end, in HTTP/2 and Kafka where requests and answers begin
//! (`frames`, `kafka`). Whatever else passes, as TLS, is bytes to it. In all but HTTP/1.1 a fault counts bytes since
//! the connection began, or since the fault was set.

mod frames;
mod kafka;
#[cfg(test)]
mod tests;
mod tls;

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, Weak};
use std::thread;
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};

use frames::{Speech, Turn};
pub use kafka::{Broker, User};
pub use tls::Tls;

/// How long a blocked write may take to notice that its connection is over.
const NOTICE: Duration = Duration::from_millis(100);
/// A head that is longer is no HTTP.
const MOST_HEAD: usize = 64 << 10;
/// So many writes a second make a slow response.
const DRIPS: usize = 20;

/// What goes wrong.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Nothing.
    None,
    /// Nobody listens, and what was connected is reset.
    Refuse,
    /// Each connection is reset after so many bytes of a request, its head included, went on to the server.
    Reset { after_request_bytes: usize },
    /// Connections are accepted, requests are read, and nothing is ever answered or passed on.
    Hang,
    /// The response comes so slowly.
    Drip { bytes_per_second: usize },
    /// The request is passed on whole, the server's reply is swallowed, and the connection reset. Where it is not known
    /// what is a reply, the next bytes from the server are swallowed.
    CutResponse,
    /// The request is passed on whole, and the server's reply replaced by what is no HTTP.
    GarbageResponse,
    /// One bit is wrong in each request's body, at that offset; in what is not HTTP/1.1, in each connection.
    Corrupt { offset: usize },
    /// So many requests are answered here, and the server does not see them; then all is well. Only plain HTTP/1.1: else
    /// connections are reset.
    Status { code: u16, headers: Vec<(String, String)>, body: String, requests: usize },
    /// Requests with that text in them are answered here: they are refused for what their events are. Only Kafka.
    Poison { text: &'static str },
    /// The first bytes of a connection are answered by rubbish, whether it speaks TLS or not.
    GarbageTls,
}

impl Fault {
    /// A [`Fault::Status`] without headers and body.
    pub fn status(code: u16, requests: usize) -> Fault {
        Fault::Status { code, headers: Vec::new(), body: String::new(), requests }
    }

    /// Whether it ends what is connected when it begins. Others begin with a connection's next request.
    fn is_outage(&self) -> bool {
        matches!(self, Fault::Refuse | Fault::Hang | Fault::GarbageTls)
    }
}

/// A proxy to a port of this machine. Dropped, it closes everything.
pub struct Proxy {
    pub port: u16,
    shared: Arc<Shared>,
    /// Keeps the port while nobody listens on it.
    _reserved: Socket,
}

struct Shared {
    upstream: AtomicU16,
    /// What is passed is Kafka.
    broker: Option<Arc<Broker>>,
    state: Mutex<State>,
    connections: AtomicUsize,
    requests: AtomicUsize,
}

struct State {
    fault: Fault,
    /// Counts the faults that were set.
    epoch: usize,
    listener: Option<Arc<TcpListener>>,
    open: Vec<Weak<Connection>>,
}

impl Proxy {
    /// Listens on a free port of 127.0.0.1 and passes everything on.
    pub fn start(upstream_port: u16) -> Proxy {
        Proxy::before(upstream_port, None)
    }

    /// The same before the only broker of a Kafka cluster, which is then as that says.
    pub fn start_kafka(upstream_port: u16, broker: Broker) -> Proxy {
        Proxy::before(upstream_port, Some(Arc::new(broker)))
    }

    fn before(upstream_port: u16, broker: Option<Arc<Broker>>) -> Proxy {
        let (reserved, port) = reserve_port();
        let state = State { fault: Fault::None, epoch: 0, listener: None, open: Vec::new() };
        let shared = Arc::new(Shared {
            upstream: AtomicU16::new(upstream_port),
            broker,
            state: Mutex::new(state),
            connections: AtomicUsize::new(0),
            requests: AtomicUsize::new(0),
        });
        let proxy = Proxy { port, shared, _reserved: reserved };
        proxy.advertise(port);
        proxy.listen(&mut proxy.shared.state());
        proxy
    }

    /// Changes what goes wrong. Ends the connections, if either fault is an outage: then nothing of the one is left
    /// when the other begins.
    pub fn set(&self, fault: Fault) {
        let mut state = self.shared.state();
        let ends = state.fault.is_outage() || fault.is_outage();
        let listens = !matches!(fault, Fault::Refuse);
        state.fault = fault;
        state.epoch += 1;
        if ends {
            state.open.drain(..).filter_map(|open| open.upgrade()).for_each(|connection| connection.reset());
        }
        match (&state.listener, listens) {
            (Some(_), false) => close(state.listener.take().unwrap()),
            (None, true) => self.listen(&mut state),
            _ => {}
        }
    }

    /// Resets all connections, once.
    pub fn reset(&self) {
        let mut state = self.shared.state();
        state.open.drain(..).filter_map(|open| open.upgrade()).for_each(|connection| connection.reset());
    }

    /// Leads new connections to another port.
    pub fn lead_to(&self, upstream_port: u16) {
        self.shared.upstream.store(upstream_port, Ordering::Relaxed);
    }

    /// Has clients of Kafka sent to that port, instead of its own: to who leads here.
    pub fn advertise(&self, port: u16) {
        self.shared.broker.iter().for_each(|broker| broker.advertise(port));
    }

    /// How many connections were accepted so far.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// How many connections are open now.
    pub fn open(&self) -> usize {
        self.shared.state().open.iter().filter(|open| open.strong_count() > 0).count()
    }

    /// How many requests of plain HTTP, or to produce to Kafka, have begun so far, whatever became of them.
    pub fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::Relaxed)
    }

    fn listen(&self, state: &mut State) {
        let socket = bind(self.port);
        socket.listen(1024).unwrap();
        let listener = Arc::new(TcpListener::from(socket));
        state.listener = Some(listener.clone());
        let shared = Arc::downgrade(&self.shared);
        thread::spawn(move || {
            while let Ok((client, _)) = listener.accept() {
                let Some(shared) = shared.upgrade() else { return };
                thread::spawn(move || shared.serve(client));
            }
        });
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.set(Fault::Refuse);
    }
}

/// A port of 127.0.0.1 that nobody else gets as long as the socket is there: who names it and reuses addresses may
/// listen on it.
pub fn reserve_port() -> (Socket, u16) {
    let socket = bind(0);
    let port = socket.local_addr().unwrap().as_socket().unwrap().port();
    (socket, port)
}

fn bind(port: u16) -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into()).unwrap();
    socket
}

/// Wakes who accepts, who has the other share of the socket.
fn close(listener: Arc<TcpListener>) {
    SockRef::from(&*listener).shutdown(Shutdown::Both).unwrap();
    // Closed when the accepting thread is gone; nobody is accepted any more.
}

/// A client and the server, connected.
struct Connection {
    client: TcpStream,
    server: TcpStream,
    /// As the client's first bytes say: until then, nothing is passed on to it.
    speech: OnceLock<Speech>,
    /// Held while something is written to the client: not only replies are.
    writing: Mutex<()>,
    is_over: AtomicBool,
    /// What becomes of the next bytes from the server.
    reply: Mutex<Reply>,
}

#[derive(Clone, Copy, PartialEq)]
enum Reply {
    Pass,
    Swallow,
    Garbage,
}

impl Connection {
    /// Ends both sides with RST, once nobody uses them any more, which is soon.
    fn reset(&self) {
        self.is_over.store(true, Ordering::Relaxed);
        for stream in [&self.client, &self.server] {
            let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
            // Wakes who reads, and says nothing to the peer.
            let _ = stream.shutdown(Shutdown::Read);
        }
    }

    fn to_server(&self, bytes: &[u8]) -> io::Result<()> {
        self.write(&self.server, bytes)
    }

    fn to_client(&self, bytes: &[u8]) -> io::Result<()> {
        let _writing = self.writing.lock().unwrap();
        self.write(&self.client, bytes)
    }

    /// Writes all, unless the connection is over before.
    fn write(&self, mut to: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            if self.is_over.load(Ordering::Relaxed) {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            match to.write(bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// The fault at this moment, and which one it is.
    fn fault(&self) -> (usize, Fault) {
        let state = self.state();
        (state.epoch, state.fault.clone())
    }

    fn serve(self: Arc<Shared>, client: TcpStream) {
        self.connections.fetch_add(1, Ordering::Relaxed);
        let upstream = self.upstream.load(Ordering::Relaxed);
        let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, upstream)) else {
            // As if the server were here.
            let _ = SockRef::from(&client).set_linger(Some(Duration::ZERO));
            return;
        };
        for stream in [&client, &server] {
            let _ = stream.set_nodelay(true);
            let _ = stream.set_write_timeout(Some(NOTICE));
        }
        let connection = Arc::new(Connection {
            client,
            server,
            speech: OnceLock::new(),
            writing: Mutex::new(()),
            is_over: AtomicBool::new(false),
            reply: Mutex::new(Reply::Pass),
        });
        {
            let mut state = self.state();
            state.open.retain(|open| open.strong_count() > 0);
            state.open.push(Arc::downgrade(&connection));
            // It may have been accepted just before.
            if matches!(state.fault, Fault::Refuse) {
                connection.reset();
            }
        }
        let (shared, replies) = (self.clone(), connection.clone());
        thread::spawn(move || shared.pass_replies(&replies));
        let mut requests = Requests { shared: &self, connection: &connection, ahead: Vec::new() };
        match requests.pass() {
            // The client has no more to say; the server may have.
            Ok(()) => _ = connection.server.shutdown(Shutdown::Write),
            Err(_) => connection.reset(),
        }
    }

    /// From the server to the client.
    fn pass_replies(&self, connection: &Connection) {
        let result = self.pass_each_reply(connection);
        if result.is_err() {
            connection.reset();
        } else {
            let _ = connection.client.shutdown(Shutdown::Write);
        }
    }

    fn pass_each_reply(&self, connection: &Connection) -> io::Result<()> {
        let (mut buffer, mut ahead) = (vec![0; 64 << 10], Vec::new());
        loop {
            let count = (&connection.server).read(&mut buffer)?;
            let speech = connection.speech.wait();
            if connection.is_over.load(Ordering::Relaxed) {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            if count == 0 {
                return Ok(());
            }
            ahead.extend_from_slice(&buffer[..count]);
            while let Some(mut frame) = speech.take_frame(&mut ahead) {
                let reply = if speech.reply(&mut frame)? { *connection.reply.lock().unwrap() } else { Reply::Pass };
                match reply {
                    Reply::Pass => self.pass_reply(connection, &frame)?,
                    Reply::Swallow => return Err(io::ErrorKind::ConnectionReset.into()),
                    Reply::Garbage => {
                        connection.to_client(GARBAGE)?;
                        // Seen by the client, other than what is reset.
                        connection.client.shutdown(Shutdown::Write)?;
                        return Ok(());
                    }
                }
            }
        }
    }

    fn pass_reply(&self, connection: &Connection, mut rest: &[u8]) -> io::Result<()> {
        while let (Fault::Drip { bytes_per_second }, false) = (self.fault().1, rest.is_empty()) {
            let (drip, more) = rest.split_at(rest.len().min((bytes_per_second / DRIPS).max(1)));
            connection.to_client(drip)?;
            rest = more;
            thread::sleep(Duration::from_secs(1) / DRIPS.min(bytes_per_second.max(1)) as u32);
        }
        connection.to_client(rest)
    }
}

/// What is neither HTTP nor TLS.
const GARBAGE: &[u8] = b"\x00\xffthis is rubbish\r\n\r\n";

/// From the client to the server.
struct Requests<'a> {
    shared: &'a Shared,
    connection: &'a Connection,
    /// What was read and not yet used.
    ahead: Vec<u8>,
}

/// What a request is.
struct Head {
    bytes: Vec<u8>,
    /// None: chunked.
    length: Option<usize>,
    waits: bool,
}

impl Requests<'_> {
    /// Passes requests until the client has no more. An error: the connection is to be reset.
    fn pass(&mut self) -> io::Result<()> {
        let is_there = self.fill();
        let speech = match &self.shared.broker {
            Some(broker) => Speech::Kafka(broker.meet()),
            None if self.ahead.starts_with(frames::HTTP2) => Speech::Http2,
            None => Speech::Unknown,
        };
        let speech = self.connection.speech.get_or_init(|| speech);
        if !is_there? {
            return Ok(());
        }
        if let (_, Fault::GarbageTls) = self.shared.fault() {
            self.connection.to_client(GARBAGE)?;
            self.connection.client.shutdown(Shutdown::Write)?;
            // Until the client has seen it.
            while self.fill()? {
                self.ahead.clear();
            }
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        while let Some(head) = self.head(speech)? {
            let Some(head) = head else { return self.pass_frames(speech) };
            self.shared.requests.fetch_add(1, Ordering::Relaxed);
            self.pass_one(head)?;
        }
        Ok(())
    }

    fn pass_one(&mut self, head: Head) -> io::Result<()> {
        let fault = self.next_fault();
        let reply = match fault {
            Fault::CutResponse => Reply::Swallow,
            Fault::GarbageResponse => Reply::Garbage,
            _ => Reply::Pass,
        };
        if let Fault::Status { code, headers, body, .. } = fault {
            if head.waits {
                self.connection.to_client(b"HTTP/1.1 100 Continue\r\n\r\n")?;
            }
            self.body(&head, |_, _| Ok(()))?;
            let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
            let length = body.len();
            let reply = format!("HTTP/1.1 {code} Fault\r\n{headers}Content-Length: {length}\r\n\r\n{body}");
            return self.connection.to_client(reply.as_bytes());
        }
        if let Fault::Hang = fault {
            return self.swallow();
        }
        *self.connection.reply.lock().unwrap() = reply;
        let connection = self.connection;
        let mut left = if let Fault::Reset { after_request_bytes } = fault { Some(after_request_bytes) } else { None };
        let mut forward = |bytes: &[u8]| -> io::Result<()> {
            let Some(left) = &mut left else { return connection.to_server(bytes) };
            let count = bytes.len().min(*left);
            connection.to_server(&bytes[..count])?;
            *left -= count;
            if *left == 0 { Err(io::ErrorKind::ConnectionReset.into()) } else { Ok(()) }
        };
        forward(&head.bytes)?;
        self.body(&head, |offset, bytes| {
            if let Fault::Corrupt { offset: wrong } = fault
                && let Some(byte) = wrong.checked_sub(offset).and_then(|at| bytes.get_mut(at))
            {
                *byte ^= 1;
            }
            forward(bytes)
        })
    }

    /// What goes wrong with a request that begins now.
    fn next_fault(&self) -> Fault {
        let mut state = self.shared.state();
        let fault = state.fault.clone();
        if let Fault::Status { requests, .. } = &mut state.fault {
            if *requests == 0 {
                state.fault = Fault::None;
                return Fault::None;
            }
            *requests -= 1;
        }
        fault
    }

    /// Whether a client's next head is there: none at the end, and none in it if it is no HTTP/1.1.
    fn head(&mut self, speech: &Speech) -> io::Result<Option<Option<Head>>> {
        loop {
            if !matches!(speech, Speech::Unknown) {
                return Ok(Some(None));
            }
            let line = self.ahead.split(|byte| *byte == b'\n').next().unwrap();
            let has_line = line.len() < self.ahead.len();
            let is_method = |line: &[u8]| line.iter().take_while(|byte| **byte != b' ').all(u8::is_ascii_uppercase);
            let is_http = is_method(line) && (!has_line || line.ends_with(b" HTTP/1.1\r"));
            if !is_http || self.ahead.len() > MOST_HEAD {
                return Ok(Some(None));
            }
            if let Some(end) = find(&self.ahead, b"\r\n\r\n") {
                let bytes = self.ahead.drain(..end + 4).collect();
                return Ok(Some(Some(parse(bytes))));
            }
            if !self.fill()? {
                return Ok(None);
            }
        }
    }

    /// Gives a body's bytes as they come, with their offset, chunk sizes and all.
    fn body(&mut self, head: &Head, mut take: impl FnMut(usize, &mut [u8]) -> io::Result<()>) -> io::Result<()> {
        let mut offset = 0;
        match head.length {
            Some(length) => self.take(length, &mut offset, &mut take),
            None => loop {
                let line = loop {
                    if let Some(end) = find(&self.ahead, b"\r\n") {
                        break end + 2;
                    }
                    self.more()?;
                };
                let size = std::str::from_utf8(&self.ahead[..line - 2])
                    .ok()
                    .and_then(|line| usize::from_str_radix(line.split(';').next()?.trim(), 16).ok());
                let size = size.ok_or(io::ErrorKind::InvalidData)?;
                // No trailers: nobody here sends any.
                self.take(line + size + 2, &mut offset, &mut take)?;
                if size == 0 {
                    return Ok(());
                }
            },
        }
    }

    fn take(
        &mut self,
        mut count: usize,
        offset: &mut usize,
        take: &mut impl FnMut(usize, &mut [u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        while count > 0 {
            if self.ahead.is_empty() {
                self.more()?;
            }
            let now = count.min(self.ahead.len());
            take(*offset, &mut self.ahead[..now])?;
            self.ahead.drain(..now);
            *offset += now;
            count -= now;
        }
        Ok(())
    }

    /// What is not HTTP/1.1.
    fn pass_frames(&mut self, speech: &Speech) -> io::Result<()> {
        // Bytes since the connection began, or since the fault was set.
        let (mut epoch, mut passed) = (self.shared.fault().0, 0);
        loop {
            let Some(mut bytes) = speech.take_frame(&mut self.ahead) else {
                if self.fill()? {
                    continue;
                }
                return Ok(());
            };
            let (now, fault) = self.shared.fault();
            if now != epoch {
                (epoch, passed) = (now, 0);
            }
            match speech.request(&bytes, &fault)? {
                Turn::Ours(answer) => {
                    self.connection.to_client(&answer)?;
                    continue;
                }
                Turn::Theirs { is_request } => _ = self.shared.requests.fetch_add(is_request.into(), Ordering::Relaxed),
            }
            *self.connection.reply.lock().unwrap() = match fault {
                Fault::Hang => return self.swallow(),
                Fault::Status { .. } => return Err(io::ErrorKind::ConnectionReset.into()),
                Fault::CutResponse => Reply::Swallow,
                Fault::GarbageResponse => Reply::Garbage,
                _ => Reply::Pass,
            };
            match fault {
                Fault::Reset { after_request_bytes } if passed + bytes.len() >= after_request_bytes => {
                    bytes.truncate(after_request_bytes.saturating_sub(passed));
                    self.connection.to_server(&bytes)?;
                    return Err(io::ErrorKind::ConnectionReset.into());
                }
                Fault::Corrupt { offset } => {
                    if let Some(byte) = offset.checked_sub(passed).and_then(|at| bytes.get_mut(at)) {
                        *byte ^= 1;
                    }
                }
                _ => {}
            }
            passed += bytes.len();
            self.connection.to_server(&bytes)?;
        }
    }

    /// Reads for ever.
    fn swallow(&mut self) -> io::Result<()> {
        while self.fill()? {
            self.ahead.clear();
        }
        Err(io::ErrorKind::ConnectionReset.into())
    }

    /// Reads more, which must be there.
    fn more(&mut self) -> io::Result<()> {
        if self.fill()? { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    /// Reads more; whether there was any.
    fn fill(&mut self) -> io::Result<bool> {
        let mut buffer = [0; 64 << 10];
        let count = (&self.connection.client).read(&mut buffer)?;
        if self.connection.is_over.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        self.ahead.extend_from_slice(&buffer[..count]);
        Ok(count > 0)
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    memchr::memmem::find(bytes, what)
}

fn parse(bytes: Vec<u8>) -> Head {
    let text = String::from_utf8_lossy(&bytes).to_ascii_lowercase();
    let header = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim));
    let is_chunked = header("transfer-encoding").is_some();
    let length = header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let waits = header("expect").is_some();
    Head { length: (!is_chunked).then_some(length), waits, bytes }
}
