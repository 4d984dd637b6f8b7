//! The proxy before a server that echoes, and as bytes.

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

#[test]
fn of_http_2_an_answer_is_cut_and_what_is_none_passes() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let proxy = Proxy::start(listener.local_addr().unwrap().port());
    proxy.set(Fault::CutResponse);
    let (mut client, mut server) = (connect(&proxy).unwrap(), listener.accept().unwrap().0);
    let frame = |kind: u8, body: &[u8]| [&[0, 0, body.len() as u8, kind, 0, 0, 0, 0, 1], body].concat();
    let pass = |from: &mut TcpStream, to: &mut TcpStream, bytes: &[u8]| {
        from.write_all(bytes).unwrap();
        let mut got = vec![0; bytes.len()];
        to.read_exact(&mut got).unwrap();
        assert_eq!(got, bytes);
    };
    let (settings, ping, headers) = (frame(4, b""), frame(6, b"12345678"), frame(1, b"head"));
    pass(&mut client, &mut server, &[frames::HTTP2, &settings].concat());
    pass(&mut server, &mut client, &[settings, ping].concat());
    assert_eq!(proxy.requests(), 0);
    pass(&mut client, &mut server, &[headers.clone(), frame(0, b"body")].concat());
    assert_eq!(proxy.requests(), 1);
    server.write_all(&headers).unwrap();
    assert_eq!(client.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
}
