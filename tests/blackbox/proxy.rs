//! A TCP proxy that breaks what passes, in every way that a network or a server does.
//!
//! In plain HTTP/1.1 it knows where requests begin and end. Whatever else passes (TLS, HTTP/2, Kafka) is bytes to it:
//! then a fault counts bytes since the connection began, or since the fault was set.

// Sinks bring tests that use what is left.
#![allow(dead_code)]

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::thread;
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};

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
    /// The request is passed on whole, the server's reply is swallowed, and the connection reset. Of what is not plain
    /// HTTP the next bytes from the server are swallowed.
    CutResponse,
    /// The request is passed on whole, and the server's reply replaced by what is no HTTP.
    GarbageResponse,
    /// One bit is wrong in each request's body, at that offset; in what is not plain HTTP, in each connection.
    Corrupt { offset: usize },
    /// So many requests are answered here, and the server does not see them; then all is well. Only plain HTTP.
    Status { code: u16, headers: Vec<(String, String)>, body: String, requests: usize },
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
        let (reserved, port) = reserve_port();
        let state = State { fault: Fault::None, epoch: 0, listener: None, open: Vec::new() };
        let shared = Arc::new(Shared {
            upstream: AtomicU16::new(upstream_port),
            state: Mutex::new(state),
            connections: AtomicUsize::new(0),
            requests: AtomicUsize::new(0),
        });
        let proxy = Proxy { port, shared, _reserved: reserved };
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

    /// How many connections were accepted so far.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// How many connections are open now.
    pub fn open(&self) -> usize {
        self.shared.state().open.iter().filter(|open| open.strong_count() > 0).count()
    }

    /// How many requests of plain HTTP have begun so far, whatever became of them.
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
        let connection =
            Arc::new(Connection { client, server, is_over: AtomicBool::new(false), reply: Mutex::new(Reply::Pass) });
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
        let mut buffer = vec![0; 64 << 10];
        loop {
            let count = (&connection.server).read(&mut buffer)?;
            if connection.is_over.load(Ordering::Relaxed) {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            if count == 0 {
                return Ok(());
            }
            let reply = *connection.reply.lock().unwrap();
            match reply {
                Reply::Pass => {}
                Reply::Swallow => return Err(io::ErrorKind::ConnectionReset.into()),
                Reply::Garbage => {
                    connection.write(&connection.client, GARBAGE)?;
                    // Seen by the client, other than what is reset.
                    connection.client.shutdown(Shutdown::Write)?;
                    return Ok(());
                }
            }
            let mut rest = &buffer[..count];
            while let (Fault::Drip { bytes_per_second }, false) = (self.fault().1, rest.is_empty()) {
                let (drip, more) = rest.split_at(rest.len().min((bytes_per_second / DRIPS).max(1)));
                connection.write(&connection.client, drip)?;
                rest = more;
                thread::sleep(Duration::from_secs(1) / DRIPS.min(bytes_per_second.max(1)) as u32);
            }
            connection.write(&connection.client, rest)?;
        }
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
        if !self.fill()? {
            return Ok(());
        }
        if let (_, Fault::GarbageTls) = self.shared.fault() {
            self.connection.write(&self.connection.client, GARBAGE)?;
            self.connection.client.shutdown(Shutdown::Write)?;
            // Until the client has seen it.
            while self.fill()? {
                self.ahead.clear();
            }
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        while let Some(head) = self.head()? {
            let Some(head) = head else { return self.pass_bytes() };
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
                self.connection.write(&self.connection.client, b"HTTP/1.1 100 Continue\r\n\r\n")?;
            }
            self.body(&head, |_, _| Ok(()))?;
            let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
            let length = body.len();
            let reply = format!("HTTP/1.1 {code} Fault\r\n{headers}Content-Length: {length}\r\n\r\n{body}");
            return self.connection.write(&self.connection.client, reply.as_bytes());
        }
        if let Fault::Hang = fault {
            return self.swallow();
        }
        *self.connection.reply.lock().unwrap() = reply;
        let connection = self.connection;
        let mut left = if let Fault::Reset { after_request_bytes } = fault { Some(after_request_bytes) } else { None };
        let mut forward = |bytes: &[u8]| -> io::Result<()> {
            let Some(left) = &mut left else { return connection.write(&connection.server, bytes) };
            let count = bytes.len().min(*left);
            connection.write(&connection.server, &bytes[..count])?;
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
    fn head(&mut self) -> io::Result<Option<Option<Head>>> {
        loop {
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
    fn pass_bytes(&mut self) -> io::Result<()> {
        // Bytes since the connection began, or since the fault was set.
        let (mut epoch, mut passed) = (self.shared.fault().0, 0);
        loop {
            let (now, fault) = self.shared.fault();
            if now != epoch {
                (epoch, passed) = (now, 0);
            }
            let mut bytes = std::mem::take(&mut self.ahead);
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
                    self.connection.write(&self.connection.server, &bytes)?;
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
            self.connection.write(&self.connection.server, &bytes)?;
            if !self.fill()? {
                return Ok(());
            }
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

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, ErrorKind};
    use std::sync::mpsc::{Receiver, channel};
    use std::time::Instant;

    use super::*;

    /// A server that answers each request with its body, and tells what it got: also what was cut.
    fn echo() -> (u16, Receiver<Vec<u8>>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (seen, all) = channel();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let seen = seen.clone();
                thread::spawn(move || {
                    let mut reader = BufReader::new(&stream);
                    loop {
                        let (head, is_whole) = read_head(&mut reader);
                        let mut body = Vec::new();
                        let _ = reader.by_ref().take(length(&head) as u64).read_to_end(&mut body);
                        if !head.is_empty() {
                            let _ = seen.send([head.as_bytes(), &body].concat());
                        }
                        if !is_whole || body.len() < length(&head) {
                            return;
                        }
                        (&stream).write_all(&response(&body)).unwrap();
                    }
                });
            }
        });
        (port, all)
    }

    fn read_head(reader: &mut impl BufRead) -> (String, bool) {
        let mut head = String::new();
        while reader.read_line(&mut head).is_ok_and(|count| count > 0) {
            if head.ends_with("\r\n\r\n") {
                return (head, true);
            }
        }
        (head, false)
    }

    fn length(head: &str) -> usize {
        head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).map_or(0, |length| length.parse().unwrap())
    }

    fn request(body: &[u8]) -> Vec<u8> {
        let head = format!("POST / HTTP/1.1\r\nHost: echo\r\nContent-Length: {}\r\n\r\n", body.len());
        [head.as_bytes(), body].concat()
    }

    fn response(body: &[u8]) -> Vec<u8> {
        [format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes(), body].concat()
    }

    fn connect(proxy: &Proxy) -> io::Result<TcpStream> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port))?;
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        Ok(stream)
    }

    /// Sends a request and reads the answer to its end, which a reset is not.
    fn exchange(mut stream: &TcpStream, body: &[u8]) -> io::Result<Vec<u8>> {
        stream.write_all(&request(body))?;
        let mut reader = BufReader::new(stream);
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            if reader.read_until(b'\n', &mut answer)? == 0 {
                return Ok(answer);
            }
        }
        let mut body = vec![0; length(&String::from_utf8_lossy(&answer))];
        reader.read_exact(&mut body)?;
        Ok([answer, body].concat())
    }

    fn reset_or(result: io::Result<Vec<u8>>) -> Vec<u8> {
        match result {
            Err(e) if matches!(e.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => b"reset".to_vec(),
            result => result.unwrap(),
        }
    }

    fn wait(what: impl Fn() -> bool) {
        let begun = Instant::now();
        while !what() {
            assert!(begun.elapsed() < Duration::from_secs(30));
            thread::sleep(Duration::from_millis(2));
        }
    }

    #[test]
    fn without_a_fault_everything_passes_and_is_counted() {
        let (port, seen) = echo();
        let proxy = Proxy::start(port);
        let stream = connect(&proxy).unwrap();
        let long = vec![b'x'; 3_000_000];
        for body in [&b"one"[..], b"", &long] {
            assert_eq!(exchange(&stream, body).unwrap(), response(body));
            assert!(seen.recv().unwrap() == request(body));
        }
        assert_eq!((proxy.connections(), proxy.requests(), proxy.open()), (1, 3, 1));
        drop(stream);
        wait(|| proxy.open() == 0);
    }

    #[test]
    fn a_server_that_is_away_resets_and_comes_again() {
        let (port, _seen) = echo();
        let nobody = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let proxy = Proxy::start(nobody);
        assert_eq!(reset_or(connect(&proxy).and_then(|stream| exchange(&stream, b"a"))), b"reset");
        proxy.lead_to(port);
        assert_eq!(exchange(&connect(&proxy).unwrap(), b"b").unwrap(), response(b"b"));
    }

    #[test]
    fn refusing_ends_what_is_open_and_leaves_the_port_for_later() {
        let (port, _seen) = echo();
        let proxy = Proxy::start(port);
        for _ in 0..20 {
            let stream = connect(&proxy).unwrap();
            assert_eq!(exchange(&stream, b"a").unwrap(), response(b"a"));
            proxy.set(Fault::Refuse);
            assert_eq!(connect(&proxy).unwrap_err().kind(), ErrorKind::ConnectionRefused);
            assert_eq!((&stream).read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
            proxy.set(Fault::None);
        }
        assert_eq!(exchange(&connect(&proxy).unwrap(), b"b").unwrap(), response(b"b"));
    }

    #[test]
    fn a_reset_lets_so_many_bytes_through() {
        let (port, seen) = echo();
        let proxy = Proxy::start(port);
        let stream = connect(&proxy).unwrap();
        assert_eq!(exchange(&stream, b"before").unwrap(), response(b"before"));
        seen.recv().unwrap();
        for bytes in [10, 60, 1000] {
            proxy.set(Fault::Reset { after_request_bytes: bytes });
            let body = vec![b'x'; 100_000];
            assert_eq!(reset_or(exchange(&connect(&proxy).unwrap(), &body)), b"reset");
            // A server that is reset may lose what it had not read.
            let got = seen.recv().unwrap();
            assert!(got.len() <= bytes && request(&body).starts_with(&got), "{} of {bytes}", got.len());
        }
        // What is shorter passes.
        assert_eq!(exchange(&stream, b"after").unwrap(), response(b"after"));
    }

    #[test]
    fn who_hangs_reads_and_never_answers() {
        let (port, seen) = echo();
        let proxy = Proxy::start(port);
        let old = connect(&proxy).unwrap();
        exchange(&old, b"before").unwrap();
        proxy.set(Fault::Hang);
        assert_eq!((&old).read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
        let stream = connect(&proxy).unwrap();
        // More than any buffer on the way has room for.
        (&stream).write_all(&request(&vec![b'x'; 20_000_000])).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        assert_eq!((&stream).read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
        assert_eq!((seen.recv().unwrap(), seen.try_recv().ok()), (request(b"before"), None));
        assert_eq!(proxy.requests(), 2);
        proxy.set(Fault::None);
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        assert_eq!((&stream).read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    }

    #[test]
    fn a_response_that_drips_comes_whole_and_late() {
        let (port, _seen) = echo();
        let proxy = Proxy::start(port);
        let stream = connect(&proxy).unwrap();
        proxy.set(Fault::Drip { bytes_per_second: 1000 });
        let begun = Instant::now();
        assert_eq!(exchange(&stream, &[b'x'; 400]).unwrap(), response(&[b'x'; 400]));
        assert!(begun.elapsed() > Duration::from_millis(300), "{:?}", begun.elapsed());
    }

    #[test]
    fn a_response_that_is_cut_was_given() {
        let (port, seen) = echo();
        let proxy = Proxy::start(port);
        let stream = connect(&proxy).unwrap();
        assert_eq!(exchange(&stream, b"a").unwrap(), response(b"a"));
        proxy.set(Fault::CutResponse);
        assert_eq!(reset_or(exchange(&stream, b"b")), b"reset");
        proxy.set(Fault::GarbageResponse);
        assert_eq!(exchange(&connect(&proxy).unwrap(), b"c").unwrap(), GARBAGE);
        let seen: Vec<_> = (0..3).map(|_| seen.recv().unwrap()).collect();
        assert_eq!(seen, [request(b"a"), request(b"b"), request(b"c")]);
    }

    #[test]
    fn one_bit_is_wrong() {
        let (port, seen) = echo();
        let proxy = Proxy::start(port);
        proxy.set(Fault::Corrupt { offset: 2 });
        assert_eq!(exchange(&connect(&proxy).unwrap(), b"aaaa").unwrap(), response(b"aa`a"));
        assert_eq!(seen.recv().unwrap(), request(b"aa`a"));
    }

    #[test]
    fn so_many_requests_are_answered_with_a_status() {
        let (port, seen) = echo();
        let proxy = Proxy::start(port);
        let stream = connect(&proxy).unwrap();
        assert_eq!(exchange(&stream, b"a").unwrap(), response(b"a"));
        let headers = vec![("Retry-After".to_owned(), "1".to_owned())];
        proxy.set(Fault::Status { code: 429, headers, body: "slow down".to_owned(), requests: 2 });
        let refused = b"HTTP/1.1 429 Fault\r\nRetry-After: 1\r\nContent-Length: 9\r\n\r\nslow down";
        // On the connection that was there, and on a new one whose body comes in chunks.
        assert_eq!(exchange(&stream, &[b'x'; 1_000_000]).unwrap(), refused);
        let chunked = connect(&proxy).unwrap();
        let head = "POST / HTTP/1.1\r\nHost: echo\r\nTransfer-Encoding: chunked\r\n\r\n";
        for part in [head, "3;x=y\r\nab", "c\r\n1", "0\r\n0123456789abcdef\r\n0\r", "\n\r\n"] {
            (&chunked).write_all(part.as_bytes()).unwrap();
        }
        let mut answer = vec![0; refused.len()];
        (&chunked).read_exact(&mut answer).unwrap();
        assert_eq!(answer, refused);
        assert_eq!(exchange(&chunked, b"b").unwrap(), response(b"b"));
        assert_eq!((seen.recv().unwrap(), seen.recv().unwrap()), (request(b"a"), request(b"b")));
        assert_eq!((proxy.requests(), proxy.connections()), (4, 2));
    }

    #[test]
    fn a_greeting_is_answered_by_rubbish() {
        let (port, _seen) = echo();
        let proxy = Proxy::start(port);
        proxy.set(Fault::GarbageTls);
        let mut stream = connect(&proxy).unwrap();
        stream.write_all(b"\x16\x03\x01\x00\x05hello").unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        assert_eq!(answer, GARBAGE);
    }

    #[test]
    fn what_is_not_http_passes_and_breaks_as_bytes() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let proxy = Proxy::start(listener.local_addr().unwrap().port());
        let pair = || (connect(&proxy).unwrap(), listener.accept().unwrap().0);
        let pass = |mut from: &TcpStream, mut to: &TcpStream, bytes: &[u8]| {
            from.write_all(bytes).unwrap();
            let mut got = vec![0; bytes.len()];
            to.read_exact(&mut got).unwrap();
            got
        };
        let (client, server) = pair();
        let hello = b"\x16\x03\x01 not a request\r\n\r\n";
        assert_eq!(pass(&client, &server, hello), hello);
        assert_eq!(pass(&server, &client, b"reply"), b"reply");
        // The end of one direction is passed on as well.
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!((&server).read(&mut [0]).unwrap(), 0);
        assert_eq!(pass(&server, &client, b"more"), b"more");

        let (client, server) = pair();
        assert_eq!(pass(&client, &server, hello), hello);
        proxy.set(Fault::Corrupt { offset: 1 });
        assert_eq!(pass(&client, &server, b"aaa"), b"a`a");
        proxy.set(Fault::Reset { after_request_bytes: 4 });
        assert_eq!(pass(&client, &server, b"aaa"), b"aaa");
        (&client).write_all(b"bbb").unwrap();
        assert_eq!((&client).read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);

        proxy.set(Fault::None);
        let (client, server) = pair();
        assert_eq!(pass(&client, &server, hello), hello);
        proxy.set(Fault::CutResponse);
        assert_eq!(pass(&client, &server, b"question"), b"question");
        (&server).write_all(b"answer").unwrap();
        assert_eq!((&client).read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert_eq!(proxy.requests(), 0);
    }

    #[test]
    fn all_connections_can_be_reset_at_once() {
        let (port, _seen) = echo();
        let proxy = Proxy::start(port);
        let streams: Vec<_> = (0..10).map(|_| connect(&proxy).unwrap()).collect();
        streams.iter().for_each(|stream| assert_eq!(exchange(stream, b"a").unwrap(), response(b"a")));
        proxy.reset();
        for stream in &streams {
            assert_eq!((&*stream).read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
        }
        assert_eq!(exchange(&connect(&proxy).unwrap(), b"b").unwrap(), response(b"b"));
    }
}
