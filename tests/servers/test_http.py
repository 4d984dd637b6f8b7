import gzip
import json
import os
import signal
import socket
import ssl
import threading
import time
import unittest

import zstandard

import common
from testing import Case, trusting

NDJSON = {"Content-Type": "application/x-ndjson"}


def lines(numbers):
    return "".join(json.dumps({"seq": n, "content": "é %d" % n}) + "\n" for n in numbers).encode()


class Http(Case):
    kind = "http"

    def numbers(self, server):
        return [event["fields"]["seq"] for event in server.events()]

    def test_each_form_is_stored_in_its_order(self):
        server = self.server()
        array = json.dumps([{"seq": 2}, {"seq": 3}]).encode()
        with_gzip = dict(NDJSON, **{"Content-Encoding": "gzip"})
        with_zstd = dict(NDJSON, **{"Content-Encoding": "zstd"})
        for body, headers in [
            (lines([0, 1]), NDJSON),
            (array, {"Content-Type": "application/json"}),
            (gzip.compress(lines([4])) + gzip.compress(lines([5])), with_gzip),
            (zstandard.compress(lines([6])) + zstandard.compress(lines([7])), with_zstd),
            (iter([lines([8]), lines([9])[:5], lines([9])[5:]]), NDJSON),
        ]:
            self.assertEqual(server.send("/in?a=b", body, headers), (200, b""))
        self.assertEqual(self.numbers(server), list(range(10)))
        event = {"to": {"path": "/in"}, "fields": {"seq": 0, "content": "é 0"}, "time_ns": None, "tags": {}}
        self.assertEqual(server.events()[0], event)
        self.assertEqual(server.errors(), [])
        self.assertEqual([request["events"] for request in server.requests()], [2, 2, 2, 2, 2])
        self.assertEqual(server.requests()[4]["headers"]["transfer-encoding"], "chunked")
        self.assertEqual(server.close(), 0)

    def test_what_breaks_the_protocol_is_refused_whole_and_recorded(self):
        server = self.server()
        with_gzip = dict(NDJSON, **{"Content-Encoding": "gzip"})
        with_zstd = dict(NDJSON, **{"Content-Encoding": "zstd"})
        cases = [
            (400, b'{"seq":1}\n{"seq":2', NDJSON),
            (400, b'{"seq":1}\n\n', NDJSON),
            (400, b'{"seq":NaN}\n', NDJSON),
            (400, b'{"seq":1,"seq":2}\n', NDJSON),
            (400, b'{"seq":1}\n[]\n', NDJSON),
            (400, b'{"seq":"\xff"}\n', NDJSON),
            (400, b"", NDJSON),
            (400, b"{}", {"Content-Type": "application/json"}),
            (415, b"{}\n", {"Content-Type": "text/plain"}),
            (400, gzip.compress(lines([1]))[:-1], with_gzip),
            (400, zstandard.compress(lines([1]))[:-1], with_zstd),
            (400, lines([1]), with_zstd),
            (400, lines([1]), dict(NDJSON, **{"Content-Encoding": "br"})),
        ]
        for status, body, headers in cases:
            self.assertEqual(server.send("/", body, headers)[0], status, body)
        self.assertEqual(server.send("/", lines([1]), NDJSON, method="PUT")[0], 405)
        self.assertEqual(len(server.errors()), len(cases) + 1, server.errors())
        self.assertEqual(server.events(), [])

    def test_broken_http_is_refused_and_recorded(self):
        server = self.server()
        chunked = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        for raw in [
            b"POST / HTTP/1.1\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            chunked + b"x\r\n",
            chunked + b"1\r\nabc",
            b"rubbish / HTTP/x\r\n\r\n",
        ]:
            with socket.create_connection(("127.0.0.1", server.port)) as connection:
                connection.sendall(raw)
                answer = b"".join(iter(lambda: connection.recv(4096), b""))
                self.assertIn(b" 400 ", answer.partition(b"\r\n")[0], raw)
        self.assertEqual(len(server.errors()), 7)

    def test_a_body_that_ends_early_is_nobodys_mistake(self):
        server = self.server()
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n" + lines([1]))
        self.assertEqual(server.send("/", lines([2]), NDJSON)[0], 200)
        self.assertEqual((self.numbers(server), server.errors()), ([2], []))

    def test_poison_refuses_the_request_and_is_no_mistake(self):
        server = self.server("--poison", "bad é 3")
        body = lines([1, 2]) + json.dumps({"seq": 9, "a": {"b": ["a bad é 3!"]}}).encode() + b"\n"
        self.assertEqual(server.send("/", body, NDJSON)[0], 400)
        self.assertEqual(server.send("/", lines([1, 2]), NDJSON)[0], 200)
        self.assertEqual((self.numbers(server), server.errors()), ([1, 2], []))

    def test_who_has_no_right_is_sent_away(self):
        for flag, right, wrong in [
            ("--basic=me:pass", "Basic bWU6cGFzcw==", "Basic bWU6cGFzYw=="),
            ("--bearer=token", "Bearer token", "Bearer other"),
        ]:
            server = self.server(flag)
            self.assertEqual(server.send("/", lines([1]), dict(NDJSON, Authorization=wrong))[0], 401)
            self.assertEqual(server.send("/", lines([1]), NDJSON)[0], 401)
            self.assertEqual(server.send("/", lines([2]), dict(NDJSON, Authorization=right))[0], 200)
            self.assertEqual((self.numbers(server), len(server.errors())), ([2], 2))

    def test_failures_on_demand_and_a_limit_of_size(self):
        server = self.server("--fail", "503:2", "--fail", "429:1", "--max-body", "100")
        statuses = [server.send("/", lines([n]), NDJSON)[0] for n in range(4)]
        self.assertEqual(statuses, [503, 503, 429, 200])
        self.assertEqual(server.send("/", lines(range(10)), NDJSON)[0], 413)
        self.assertEqual((self.numbers(server), server.errors()), ([3], []))
        self.assertEqual([request["status"] for request in server.requests()], [503, 503, 429, 200, 413])

    def test_it_comes_again_on_its_port_with_what_it_had(self):
        server = self.server()
        server.send("/", lines([1]), NDJSON)
        self.assertEqual(server.close(signal.SIGKILL), -signal.SIGKILL)
        # As if it had been killed while it wrote.
        with open(server.out, "a") as file:
            file.write('{"to":{"pa')
        port = server.port
        server.start()
        self.assertEqual(server.port, port)
        server.send("/", lines([2]), NDJSON)
        self.assertEqual(self.numbers(server), [1, 2])

    def test_requests_are_counted_while_they_are_worked_on(self):
        server = self.server("--delay", "0.2")
        threads = [threading.Thread(target=server.send, args=("/", lines([n]), NDJSON)) for n in range(8)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        self.assertEqual(sorted(self.numbers(server)), list(range(8)))
        self.assertGreater(max(request["at_once"] for request in server.requests()), 1)

    @unittest.skipUnless("WEIR_TEST_CERTIFICATES" in os.environ, "whoever makes certificates sets where they are")
    def test_tls_with_and_without_client_certificates(self):
        ca, cert, key, client, client_key = (
            os.path.join(os.environ["WEIR_TEST_CERTIFICATES"], name)
            for name in ["ca.pem", "server.pem", "server.key", "client.pem", "client.key"]
        )
        server = self.server("--tls", cert, key)
        self.assertEqual(server.send("/", lines([1]), NDJSON, tls=trusting(ca))[0], 200)
        with self.assertRaises(ssl.SSLError):
            server.send("/", lines([2]), NDJSON, tls=ssl.create_default_context())
        self.assertEqual(self.numbers(server), [1])
        mutual = self.server("--tls", cert, key, "--client-ca", ca)
        self.assertEqual(mutual.send("/", lines([1]), NDJSON, tls=trusting(ca, client, client_key))[0], 200)
        with self.assertRaises(OSError):
            mutual.send("/", lines([2]), NDJSON, tls=trusting(ca))
        self.assertEqual((self.numbers(mutual), mutual.errors()), ([1], []))

    def test_much_is_stored_whole(self):
        body = "".join(json.dumps({"seq": n, "content": "x" * 180}) + "\n" for n in range(10000)).encode()
        server = self.server()
        begun = time.process_time(), time.time()
        for _ in range(10):
            server.send("/", body, NDJSON)
        seconds = time.time() - begun[1]
        self.assertEqual(len(server.events()), 100000)
        print("http: %.0f MB/s" % (10 * len(body) / 1e6 / seconds))


class Decoding(unittest.TestCase):
    def test_strict_json(self):
        self.assertEqual(common.strict_json('{"a":[1,"é",null]}'), {"a": [1, "é", None]})
        for bad in ["NaN", "Infinity", '{"a":1,"a":1}', "", "{'a':1}", "[1,]"]:
            with self.assertRaises(ValueError):
                common.strict_json(bad)


if __name__ == "__main__":
    unittest.main()
