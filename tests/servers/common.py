"""What the stand-in servers share: arguments, an HTTP server, TLS, and the files of what happened.

`FILE` has one line for each event that was accepted, written before the reply: `{"to": …, "fields": …, "time_ns": …,
"tags": …}`. `FILE.errors` has one line for each request that broke the protocol. `FILE.requests` has one line for
each request that was answered."""

import argparse
import base64
import gzip
import io
import json
import os
import signal
import ssl
import sys
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, unquote

import zstandard

# No server takes more in one request, whatever it is compressed to.
MAX_BODY = 512 << 20


class Refused(Exception):
    """An answer that is not a yes. `mistake` says what broke the protocol; None where the client did nothing wrong."""

    def __init__(self, status, body=b"", headers=None, mistake=None):
        super().__init__(mistake or "refused")
        self.status = status
        self.body = body if isinstance(body, bytes) else body.encode()
        self.headers = headers or {}
        self.mistake = mistake


class Response:
    """What to answer, once the events are stored."""

    def __init__(self, status=200, body=b"", headers=None, events=(), mistake=None, stored=0):
        self.status = status
        self.body = body if isinstance(body, bytes) else body.encode()
        self.headers = headers or {}
        self.events = events
        self.mistake = mistake
        # So many are stored already.
        self.stored = stored


class Request:
    def __init__(self, method, target, headers, wire):
        self.method = method
        self.target = target
        self.path, _, query = target.partition("?")
        self.path = unquote(self.path)
        self.query_string = query
        self.query = parse_qsl(query, keep_blank_values=True)
        # By lower-case name; of a repeated one all values, joined.
        self.headers = headers
        # The body as it was sent.
        self.wire = wire

    def media_type(self):
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    def body(self, encodings=("gzip", "zstd")):
        """The body without its Content-Encoding. Raises ValueError."""
        encoding = self.headers.get("content-encoding", "identity").lower()
        if encoding == "identity":
            return self.wire
        if encoding not in encodings:
            raise ValueError("Content-Encoding %s" % encoding)
        if encoding == "gzip":
            try:
                return gzip.decompress(self.wire)
            except (OSError, EOFError, ValueError) as error:
                raise ValueError("gzip: %s" % error)
        return unzstd(self.wire)


def unzstd(data):
    """All frames of zstd data. Raises ValueError."""
    try:
        with zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data), read_across_frames=True) as reader:
            out = reader.read(MAX_BODY)
        # The reader ends quietly in the middle of a frame; the decompressor tells.
        rest = data
        while rest:
            frame = zstandard.ZstdDecompressor().decompressobj()
            frame.decompress(rest)
            if not frame.eof:
                raise ValueError("zstd: the last frame is cut")
            rest = frame.unused_data
        return out
    except zstandard.ZstdError as error:
        raise ValueError("zstd: %s" % error)


def event(to, fields, time_ns=None, tags=None):
    """An event as the line that is stored."""
    line = {"to": to, "fields": fields, "time_ns": time_ns, "tags": tags or {}}
    return json.dumps(line, ensure_ascii=False, separators=(",", ":"))


def text(data):
    """Bytes as text; what is not UTF-8 looks like \\xff."""
    return data.decode("utf-8", "backslashreplace")


def strict_json(source):
    """A JSON value without what JSON does not have: NaN, infinities, a name twice. Raises ValueError."""
    try:
        # Most of the way, and the fast one: nothing around the value.
        value, end = _STRICT.scan_once(source, 0)
        if end == len(source):
            return value
    except StopIteration:
        pass
    return _STRICT.decode(source)


def _no_constant(name):
    raise ValueError("%s is not JSON" % name)


def _no_pair_twice(pairs):
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a name twice in %s" % [name for name, _ in pairs])
    return made


_STRICT = json.JSONDecoder(parse_constant=_no_constant, object_pairs_hook=_no_pair_twice)


class Files:
    """What is kept of what happened. One lock: the order in the file is the order of acceptance."""

    def __init__(self, out):
        self.lock = threading.Lock()
        self.out = _appended(out)
        self.mistakes = _appended(out + ".errors")
        self.requests = _appended(out + ".requests")

    def store(self, lines):
        """Returns when the lines are with the system."""
        data = ("\n".join(lines) + "\n").encode("utf-8", "backslashreplace")
        with self.lock:
            _write_all(self.out, data)

    def mistake(self, reason):
        with self.lock:
            _write_all(self.mistakes, (reason.replace("\n", "\\n") + "\n").encode("utf-8", "backslashreplace"))

    def request(self, **what):
        with self.lock:
            _write_all(self.requests, (json.dumps(what) + "\n").encode())


def _appended(path):
    """Opens a file for appending; a last line that a kill has cut was never acknowledged and goes."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
    size = os.fstat(fd).st_size
    end = size
    while end > 0:
        start = max(0, end - 65536)
        newline = os.pread(fd, end - start, start).rfind(b"\n")
        if newline >= 0:
            end = start + newline + 1
            break
        end = start
    if end != size:
        os.ftruncate(fd, end)
    return fd


def _write_all(fd, data):
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view):]


class Server:
    """A kind of server: overrides `add_arguments`, `prepare` and `answer`."""

    def add_arguments(self, parser):
        pass

    def prepare(self):
        pass

    def answer(self, request):
        """The Response to a request; raises Refused."""
        raise NotImplementedError

    def failure(self, code):
        """The Refused of `--fail CODE:COUNT`."""
        return Refused(int(code), "on demand\n")

    def start_more(self):
        """Starts what else listens, and returns the ports."""
        return []

    def __init__(self, argv=None):
        parser = argparse.ArgumentParser()
        parser.add_argument("--port", type=int, default=0)
        parser.add_argument("--out", required=True, metavar="FILE")
        parser.add_argument("--tls", nargs=2, metavar=("CERT", "KEY"))
        parser.add_argument("--client-ca", metavar="CA", help="clients need a certificate of this authority")
        parser.add_argument("--poison", metavar="TEXT", help="an event with this text is refused")
        parser.add_argument("--fail", action="append", default=[], metavar="CODE:COUNT", help="answer so many so")
        parser.add_argument("--retry-after", metavar="SECONDS", help="with each of them")
        parser.add_argument("--delay", type=float, default=0, metavar="SECONDS", help="before each answer")
        parser.add_argument("--max-body", type=int, metavar="BYTES", help="413 for more, as sent")
        parser.add_argument("--tied", action="store_true", help="end with standard input")
        self.add_arguments(parser)
        self.args = parser.parse_args(argv)
        self.files = Files(self.args.out)
        self.failures = []
        for fail in self.args.fail:
            code, _, count = fail.rpartition(":")
            self.failures += [code] * int(count)
        self.failing = threading.Lock()
        # Requests that are being worked on.
        self.open = 0
        self.counting = threading.Lock()
        self.prepare()

    def next_failure(self):
        with self.failing:
            return self.failures.pop(0) if self.failures else None

    def is_poisoned(self, value):
        """Whether a value, or one in it, has the poison."""
        poison = self.args.poison
        if poison is None:
            return False
        if isinstance(value, str):
            return poison in value
        if isinstance(value, bytes):
            return poison.encode() in value
        if isinstance(value, dict):
            return any(map(self.is_poisoned, value.values()))
        if isinstance(value, (list, tuple)):
            return any(map(self.is_poisoned, value))
        return poison in str(value)

    def respond(self, request):
        """The answer to a request: its events are stored."""
        with self.counting:
            self.open += 1
            at_once = self.open
        try:
            if self.args.delay:
                time.sleep(self.args.delay)
            events = 0
            try:
                code = self.next_failure()
                if code is not None:
                    refused = self.failure(code)
                    if self.args.retry_after is not None:
                        refused.headers["Retry-After"] = self.args.retry_after
                    raise refused
                if self.args.max_body is not None and len(request.wire) > self.args.max_body:
                    raise Refused(413, "too large\n")
                response = self.answer(request)
                if response.events:
                    self.files.store(response.events)
                events = len(response.events) + response.stored
            except Refused as refused:
                response = refused
            except Exception as error:
                # A fault of the stand-in, which no test may miss.
                response = Refused(500, mistake="the server itself failed: %r" % error)
            if response.mistake:
                self.files.mistake("%s %s: %s" % (request.method, request.target, response.mistake))
            self.files.request(
                method=request.method,
                target=request.target,
                headers=request.headers,
                bytes=len(request.wire),
                status=response.status,
                events=events,
                at_once=at_once,
            )
            return response
        finally:
            with self.counting:
                self.open -= 1

    def run(self):
        """Serves until SIGTERM."""
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
        http = _Http(("127.0.0.1", self.args.port), _Handler)
        http.app = self
        http.tls = self.tls_context() if self.args.tls else None
        ports = [http.server_address[1]] + self.start_more()
        threading.Thread(target=http.serve_forever, daemon=True).start()
        ready(" ".join(map(str, ports)))
        until_the_end(self.args.tied)
        # Nothing is half written, and nobody waits for an answer that will be lost.
        self.files.lock.acquire()
        os._exit(0)

    def tls_context(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.args.tls)
        if self.args.client_ca:
            context.load_verify_locations(self.args.client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
        return context


def ready(what):
    print("listening on " + what, flush=True)


def until_the_end(tied):
    """Waits for SIGTERM, which must be blocked, or with `tied` for the end of standard input."""
    if tied:
        threading.Thread(target=_end_with_stdin, daemon=True).start()
    signal.sigwait({signal.SIGTERM, signal.SIGINT})


def _end_with_stdin():
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


class Credentials:
    """What HTTP's Authorization must be: Basic or Bearer; nothing, if neither is set."""

    @staticmethod
    def add_arguments(parser):
        parser.add_argument("--basic", metavar="USER:PASSWORD")
        parser.add_argument("--bearer", metavar="TOKEN")

    @staticmethod
    def accept(args, request):
        expected = None
        if args.basic is not None:
            expected = "Basic " + base64.b64encode(args.basic.encode()).decode()
        if args.bearer is not None:
            expected = "Bearer " + args.bearer
        return expected is None or request.headers.get("authorization") == expected


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 512

    def finish_request(self, connection, address):
        if self.tls is not None:
            connection.settimeout(30)
            connection = self.tls.wrap_socket(connection, server_side=True)
            connection.settimeout(None)
        self.RequestHandlerClass(connection, address, self)

    def handle_error(self, connection, address):
        # Of the connection, not of a request: a handshake that fails, a peer that goes away.
        error = sys.exc_info()[1]
        if not isinstance(error, (OSError, ssl.SSLError, EOFError)):
            self.app.files.mistake("the server itself failed: %r" % error)
        print("connection: %r" % error, file=sys.stderr, flush=True)


class _Broken(Exception):
    """What breaks HTTP itself: the connection has no next request."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Else what is not HTTP is answered without a status.
    default_request_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    rbufsize = 1 << 16

    def handle_one_request(self):
        app = self.server.app
        self.raw_requestline = self.rfile.readline(65537)
        if not self.raw_requestline:
            self.close_connection = True
            return
        if not self.raw_requestline.endswith(b"\n"):
            raise EOFError("the connection ended in a request line")
        if not self.parse_request():
            app.files.mistake("not HTTP: %r" % self.raw_requestline[:200])
            return
        try:
            headers = self._headers()
            wire = self._body(headers)
        except _Broken as broken:
            app.files.mistake("%s %s: %s" % (self.command, self.path, broken))
            self.close_connection = True
            self._send(Response(400, "%s\n" % broken))
            return
        self._send(app.respond(Request(self.command, self.path, headers, wire)))

    def _headers(self):
        headers = {}
        for name, value in self.headers.items():
            name = name.lower()
            if name in headers:
                if name in ("host", "content-length", "content-type", "authorization", "transfer-encoding"):
                    raise _Broken("%s twice" % name)
                headers[name] += ", " + value
            else:
                headers[name] = value
        if "host" not in headers:
            raise _Broken("no Host")
        return headers

    def _body(self, headers):
        length, coding = headers.get("content-length"), headers.get("transfer-encoding")
        if coding is not None:
            if coding.lower() != "chunked" or length is not None:
                raise _Broken("Transfer-Encoding %r, Content-Length %r" % (coding, length))
            return self._chunks()
        if length is None:
            return b""
        if not (length.isascii() and length.isdigit()) or int(length) > MAX_BODY:
            raise _Broken("Content-Length %r" % length)
        return self._read(int(length))

    def _chunks(self):
        parts = []
        while True:
            line = self.rfile.readline(1000)
            size = line.partition(b";")[0].strip()
            try:
                size = int(size, 16) if size.isalnum() else -1
            except ValueError:
                size = -1
            if size < 0 or not line.endswith(b"\r\n"):
                if not line.endswith(b"\n"):
                    raise EOFError("the connection ended in a chunk")
                raise _Broken("chunk size %r" % line)
            if size == 0:
                break
            parts.append(self._read(size))
            if self._read(2) != b"\r\n":
                raise _Broken("a chunk without an end")
        while self.rfile.readline(65537) not in (b"\r\n", b""):
            pass
        return b"".join(parts)

    def _read(self, length):
        data = self.rfile.read(length)
        if len(data) != length:
            raise EOFError("the connection ended in a body")
        return data

    def _send(self, response):
        try:
            phrase = HTTPStatus(response.status).phrase
        except ValueError:
            phrase = "Unknown"
        headers = {"Date": self.date_time_string(), "Content-Length": str(len(response.body))}
        if response.status == 204:
            del headers["Content-Length"]
        headers.update(response.headers)
        if self.close_connection:
            headers["Connection"] = "close"
        head = "HTTP/1.1 %d %s\r\n" % (response.status, phrase)
        head += "".join("%s: %s\r\n" % header for header in headers.items()) + "\r\n"
        body = b"" if self.command == "HEAD" or response.status == 204 else response.body
        self.connection.sendall(head.encode("latin-1") + body)

    def log_message(self, *_):
        pass
