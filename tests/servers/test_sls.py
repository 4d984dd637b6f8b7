import hashlib
import json
import socket
import time
import unittest
import unittest.mock
from email.utils import formatdate

import lz4.block
import zstandard
from aliyun.log import LogClient, LogException, LogItem, PutLogsRequest

from sls_server import LogGroup, signature_v1, signature_v4
from testing import Case

PATH = "/logstores/app/shards/lb"
# Of the vendor's Go client's tests: one LogGroup in a list of them.
BODY = bytes.fromhex(
    "0a32" "0a1e08f8b2939e051216" "0a07546573744b6579" "120b54657374436f6e74656e74" "1a00" "220e31302e3233302e3230312e313137"
)


def group(numbers, content=lambda n: "é %d" % n):
    made = LogGroup(Topic=b"t", Source=b"10.0.0.1")
    made.LogTags.add(Key=b"__pack_id__", Value=b"5FA51423DDB54FDA-1E3")
    for n in numbers:
        log = made.Logs.add(Time=1700000000 + n, Time_ns=n)
        log.Contents.add(Key=b"seq", Value=b"%d" % n)
        log.Contents.add(Key="schlüssel".encode(), Value=content(n).encode())
    return made.SerializeToString()


def signed(server, raw, compression=None, age=0, secret="secret", changed=(), path=PATH):
    """The headers of a v1 request, and its body. What is changed is so before it is signed."""
    body = {"lz4": lambda: lz4.block.compress(raw, store_size=False), "zstd": lambda: zstandard.compress(raw)}.get(
        compression, lambda: raw
    )()
    headers = {
        "host": "127.0.0.1:%d" % server.port,
        "x-log-project": "shop",
        "date": formatdate(time.time() - age, usegmt=True),
        "content-type": "application/x-protobuf",
        "content-length": str(len(body)),
        "content-md5": hashlib.md5(body).hexdigest().upper(),
        "x-log-apiversion": "0.6.0",
        "x-log-signaturemethod": "hmac-sha1",
        "x-log-bodyrawsize": str(len(raw)),
    }
    if compression is not None:
        headers["x-log-compresstype"] = compression
    headers.update(changed)
    headers = {name: value for name, value in headers.items() if value is not None}
    headers["authorization"] = "LOG id:" + signature_v1(secret, "POST", path, [], headers)
    return headers, body


class Signatures(unittest.TestCase):
    def test_published_ones_of_version_1(self):
        headers = {
            "x-log-apiversion": "0.6.0",
            "x-log-signaturemethod": "hmac-sha1",
            "x-log-bodyrawsize": "0",
            "date": "Mon, 3 Jan 2010 08:33:47 GMT",
        }
        made = signature_v1("mockAccessKeySecret", "GET", "/logstores", [], headers)
        self.assertEqual(made, "Rwm6cTKzoti4HWoe+GKcb6Kv07E=")
        headers.update(
            {
                "x-log-bodyrawsize": "50",
                "content-md5": hashlib.md5(BODY).hexdigest().upper(),
                "content-type": "application/x-protobuf",
            }
        )
        self.assertEqual(headers["content-md5"], "8D6881250FF5559F59BBDF04100F6E59")
        made = signature_v1("mockAccessKeySecret", "GET", "/logstores/app_log", [], headers)
        self.assertEqual(made, "87xQWqFaOSewqRIma8kPjGYlXHc=")

    def test_published_ones_of_version_4(self):
        def sign(region, path, query, headers, body, method="POST"):
            headers = {
                "x-log-date": "20220808T032330Z",
                "x-log-content-sha256": hashlib.sha256(body).hexdigest(),
                **headers,
            }
            return signature_v4("zxasdasdasw2", region, method, path, query, headers)

        body = b"adasd= -asd zcas"
        self.assertEqual(
            sign("cn-shanghai", "/logstores", [], {}, body),
            (
                "20220808/cn-shanghai/sls/aliyun_v4_request",
                "8a10a5e723cb2e75964816de660b2c16a58af8bc0261f7f0722d832468c76ce8",
            ),
        )
        query = [(" abc", "efg"), (" agc ", ""), ("", "efg"), ("A-bc", "eFg")]
        headers = {"hello": "world", "x-log-test": "het123", "x-acs-ppp": "dds"}
        more = query + [("abs-ij*asd/vc", "a~js+d ada"), ("a abAas123/vc", "a~jdad a2ADFs+d ada")]
        for path, query, sent, method, expected in [
            ("/logstores", query, body, "POST", "a98f5632e93836e63839cd836a54055f480020a9364ca944e2d34f2eb9bf1bed"),
            ("/logstores", query, b"", "POST", "5a66d8f8051983e0e9d08e0f960ef9252ef971eead5bb5c7acec8617a2eb2701"),
            ("/logstores", query, b"", "GET", "d92741852500791d662a8d469ff61627c0559ecd86c3f59b7bf6772b6c62666a"),
        ]:
            self.assertEqual(sign("cn-hangzhou", path, query, headers, sent, method)[1], expected)
        made = sign("cn-hangzhou", "/logstores/hello/a+*~bb/cc", more, headers, body)[1]
        self.assertEqual(made, "2c204068e961a8813a6bcf7ac422f7fa6e9bf9a5da493e0165dfe100854d18ff")


class LogGroups(unittest.TestCase):
    def test_the_published_body(self):
        made = LogGroup()
        made.ParseFromString(BODY[2:])
        self.assertEqual(made.Logs[0].Time, 1405409656)
        self.assertEqual((made.Logs[0].Contents[0].Key, made.Logs[0].Contents[0].Value), (b"TestKey", b"TestContent"))
        self.assertEqual((made.Topic, made.Source), (b"", b"10.230.201.117"))
        self.assertEqual(made.SerializeToString(), BODY[2:])


def here(name, *args, resolve=socket.getaddrinfo):
    """Every name is this machine's."""
    return resolve("127.0.0.1", *args)


class Sls(Case):
    kind = "sls"

    def numbers(self, server):
        return [int(event["fields"]["seq"]) for event in server.events()]

    def send(self, server, headers, body, path=PATH):
        status, answer = server.send(path, body, headers)
        return status, json.loads(answer)["errorCode"] if answer else ""

    def test_each_compression_is_stored_in_its_order(self):
        server = self.server()
        for n, compression in enumerate([None, "lz4", "zstd"]):
            self.assertEqual(self.send(server, *signed(server, group([2 * n, 2 * n + 1]), compression)), (200, ""))
        self.assertEqual((self.numbers(server), server.errors()), ([0, 1, 2, 3, 4, 5], []))
        event = {
            "to": {"project": "shop", "logstore": "app", "topic": "t", "source": "10.0.0.1"},
            "fields": {"seq": "5", "schlüssel": "é 5"},
            "time_ns": 1700000005000000005,
            "tags": {"__pack_id__": "5FA51423DDB54FDA-1E3"},
        }
        self.assertEqual(server.events()[5], event)
        self.assertEqual(len(server.headers["x-log-requestid"]), 24)

    def test_the_project_is_in_the_host_too(self):
        server = self.server("--endpoint", "cn-hangzhou.log.aliyuncs.com")
        host = {"host": "shop2.cn-hangzhou.log.aliyuncs.com", "x-log-project": None}
        self.assertEqual(self.send(server, *signed(server, group([1]), changed=host)), (200, ""))
        self.assertEqual(server.events()[0]["to"]["project"], "shop2")
        host["host"] = "shop2.example.com"
        self.assertEqual(self.send(server, *signed(server, group([1]), changed=host))[0], 400)
        host["host"] = "127.0.0.1"
        self.assertEqual(self.send(server, *signed(server, group([1]), changed=host)), (400, "MissingHost"))

    def test_what_breaks_the_protocol_is_refused_and_recorded(self):
        server = self.server()
        raw = group([1])

        def without(name):
            return lambda: signed(server, raw, changed={name: None})

        def changed(**headers):
            return lambda: signed(server, raw, changed={k.replace("_", "-"): v for k, v in headers.items()})

        def tampered():
            headers, body = signed(server, raw)
            return headers, body[:-1] + b"\0"

        def body(data):
            return lambda: signed(server, data)

        def no_value():
            made = LogGroup()
            made.Logs.add(Time=1).Contents.add(Key=b"a")
            return made.SerializePartialToString()

        def one(key, time=1):
            made = LogGroup()
            made.Logs.add(Time=time).Contents.add(Key=key, Value=b"")
            return made.SerializeToString()

        cases = [
            (400, "MissingContentType", without("content-type")),
            (400, "MissingBodyRawSize", without("x-log-bodyrawsize")),
            (400, "MissingAPIVersion", without("x-log-apiversion")),
            (400, "MissingDate", without("date")),
            (400, "MissingContentMD5", without("content-md5")),
            (400, "MissingSignatureMethod", without("x-log-signaturemethod")),
            (400, "MissingHost", without("x-log-project")),
            (415, "InvalidContentType", changed(content_type="text/plain")),
            (400, "InvalidAPIVersion", changed(x_log_apiversion="0.4.0")),
            (400, "InvalidBodyRawSize", changed(x_log_bodyrawsize="%d" % (len(raw) + 1))),
            (400, "InvalidContentMD5", changed(content_md5=hashlib.md5(raw).hexdigest())),
            (400, "InvalidContentMD5", tampered),
            (400, "InvalidDateFormat", changed(date="2024-01-01T00:00:00Z")),
            (400, "InvalidCompressType", changed(x_log_compresstype="snappy")),
            (400, "PostBodyUncompressError", changed(x_log_compresstype="lz4")),
            (400, "PostBodyUncompressError", changed(x_log_compresstype="zstd")),
            (400, "RequestTimeExpired", lambda: signed(server, raw, age=16 * 60)),
            (401, "SignatureNotMatch", lambda: signed(server, raw, secret="other")),
            (400, "PostBodyInvalid", body(raw[:-1])),
            (400, "PostBodyInvalid", body(b"")),
            (400, "PostBodyInvalid", body(raw + b"\x78\x01")),
            (400, "PostBodyInvalid", body(no_value())),
            (400, "PostBodyInvalid", body(BODY)),
            (400, "InvalidEncoding", body(one(b"\xff"))),
            (400, "InvalidKey", body(one(b""))),
            (400, "InvalidTimestamp", body(one(b"a", 0))),
            (400, "PostBodyTooLarge", body(group(range(4097)))),
            (400, "PostBodyTooLarge", body(group([1], lambda n: "x" * (3 << 20)))),
        ]
        for status, code, make in cases:
            headers, data = make()
            self.assertEqual(self.send(server, headers, data), (status, code), server.errors()[-1:])
        headers, data = signed(server, raw)
        self.assertEqual(self.send(server, headers, data, "/logstores/app"), (400, "ParameterInvalid"))
        # Without a length, as chunks: http.client does so for what it cannot count.
        del headers["content-length"]
        self.assertEqual(self.send(server, headers, iter([data])), (411, "MissingContentLength"))
        self.assertEqual(len(server.errors()), len(cases) + 2)
        self.assertEqual(server.events(), [])

    def test_values_need_not_be_utf_8(self):
        server = self.server()
        made = LogGroup()
        made.Logs.add(Time=1).Contents.add(Key=b"a", Value=b"x\xffy")
        self.assertEqual(self.send(server, *signed(server, made.SerializeToString())), (200, ""))
        self.assertEqual(server.events()[0]["fields"], {"a": "x\\xffy"})

    def test_errors_on_demand_are_no_mistakes(self):
        server = self.server("--fail", "ShardWriteQuotaExceed:2", "--fail", "ServerBusy:1", "--poison", "é 2")
        answers = [self.send(server, *signed(server, group([n]))) for n in range(5)]
        quota = (403, "ShardWriteQuotaExceed")
        self.assertEqual(answers, [quota, quota, (503, "ServerBusy"), (200, ""), (200, "")])
        self.assertEqual(self.send(server, *signed(server, group([1, 2]))), (400, "PostBodyInvalid"))
        self.assertEqual((self.numbers(server), server.errors()), ([3, 4], []))

    def test_a_clock_that_is_wrong_says_what_it_shows(self):
        server = self.server("--clock-skew", "3600")
        self.assertEqual(self.send(server, *signed(server, group([1]))), (400, "RequestTimeExpired"))
        skew = int(server.headers["x-log-time"]) - time.time()
        self.assertTrue(3590 < skew < 3610, skew)
        self.assertEqual(self.send(server, *signed(server, group([2]), age=-skew)), (200, ""))
        self.assertEqual((self.numbers(server), server.errors()), ([2], []))

    def test_projects_and_logstores_that_there_are(self):
        server = self.server("--project", "shop", "--logstore", "app")
        self.assertEqual(self.send(server, *signed(server, group([1]))), (200, ""))
        other = signed(server, group([1]), changed={"x-log-project": "other"})
        self.assertEqual(self.send(server, *other), (404, "ProjectNotExist"))
        path = "/logstores/none/shards/lb"
        self.assertEqual(
            self.send(server, *signed(server, group([1]), path=path), path=path), (404, "LogStoreNotExist")
        )
        self.assertEqual(server.errors(), [])

    @unittest.mock.patch("socket.getaddrinfo", here)
    def test_the_vendors_client_by_each_signature_and_compression(self):
        server = self.server()
        for version in ["v1", "v4"]:
            client = LogClient(
                "log.test:%d" % server.port, "id", "secret", auth_version=version, region="cn-hangzhou", source="s"
            )
            for compress in [True, False]:
                items = [LogItem(1700000000, [("seq", str(n)), ("content", "é\n%d" % n)], 7) for n in range(100)]
                tags = [("__pack_id__", "A-1")]
                request = PutLogsRequest("shop", "app", "t", "s", items, compress=compress, logtags=tags)
                client.put_logs(request)
        self.assertEqual((self.numbers(server), server.errors()), (list(range(100)) * 4, []))
        event = {
            "to": {"project": "shop", "logstore": "app", "topic": "t", "source": "s"},
            "fields": {"seq": "1", "content": "é\n1"},
            "time_ns": 1700000000000000007,
            "tags": {"__pack_id__": "A-1"},
        }
        self.assertEqual(server.events()[301], event)
        by_hash = PutLogsRequest("shop", "app", "t", "s", [LogItem(1, [("seq", "9")])], hashKey="0f" * 16)
        client.put_logs(by_hash)
        self.assertEqual(server.events()[400]["to"]["key"], "0f" * 16)

    @unittest.mock.patch("socket.getaddrinfo", here)
    def test_the_vendors_client_with_a_token_and_without_rights(self):
        server = self.server("--sts-token", "sts", "--signature", "v4")

        def put(secret, token, version="v4"):
            client = LogClient(
                "log.test:%d" % server.port, "id", secret, token, "s", auth_version=version, region="cn-hangzhou"
            )
            try:
                client.put_logs(PutLogsRequest("shop", "app", "", "s", [LogItem(1, [("seq", "1")])]))
            except LogException as error:
                return error.get_error_code()

        self.assertIsNone(put("secret", "sts"))
        self.assertEqual(put("other", "sts"), "SignatureNotMatch")
        self.assertEqual(put("secret", "old"), "Unauthorized")
        self.assertEqual(put("secret", None), "Unauthorized")
        self.assertEqual(put("secret", "sts", "v1"), "Unauthorized")
        self.assertEqual((self.numbers(server), len(server.errors())), ([1], 4))


if __name__ == "__main__":
    unittest.main()
