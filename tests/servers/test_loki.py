import unittest

import cramjam

from loki_server import PushRequest, labels
from testing import Case

PATH = "/loki/api/v1/push"
PROTOBUF = {"Content-Type": "application/x-protobuf"}


def push(numbers, labels='{app="a", env="é"}'):
    made = PushRequest()
    stream = made.streams.add(labels=labels.encode())
    for n in numbers:
        entry = stream.entries.add(line="é {}".format(n).encode())
        entry.timestamp.seconds, entry.timestamp.nanos = 1700000000 + n, n
        entry.structuredMetadata.add(name=b"seq", value=b"%d" % n)
    return made


def snappy(made):
    return bytes(cramjam.snappy.compress_raw(made if isinstance(made, bytes) else made.SerializeToString()))


class Labels(unittest.TestCase):
    def test_what_is_a_label(self):
        self.assertEqual(labels('{a="b"}'), {"a": "b"})
        self.assertEqual(labels('{_a1="", b = "x,}\\"\\\\\\n\\u00e9\\xc3\\xa9"}'), {"_a1": "", "b": 'x,}"\\\néé'})
        for bad in [
            "{}",
            "",
            "a=b",
            "{a=b}",
            "{a='b'}",
            '{a="b",}',
            '{a="b" c="d"}',
            '{a="b",a="c"}',
            '{1a="b"}',
            '{a-b="c"}',
            '{a.b="c"}',
            '{a="b}',
            '{a="b"}x',
            '{a="\n"}',
            '{a="\\q"}',
            '{a="\\xff"}',
            '{a!="b"}',
            '{é="b"}',
        ]:
            with self.assertRaises(ValueError, msg=bad):
                labels(bad)


class Loki(Case):
    kind = "loki"

    def send(self, server, made, headers=PROTOBUF):
        return server.send(PATH, snappy(made), headers)[0]

    def numbers(self, server):
        return [int(event["fields"]["seq"]) for event in server.events()]

    def test_it_is_stored_in_its_order(self):
        server = self.server("--tenants")
        self.assertEqual(server.send(PATH, snappy(push([1])), dict(PROTOBUF, **{"X-Scope-OrgID": "shop"})), (204, b""))
        both = push([2, 3])
        both.streams.append(push([4], '{app="b"}').streams[0])
        self.assertEqual(self.send(server, both, dict(PROTOBUF, **{"X-Scope-OrgID": "shop"})), 204)
        self.assertEqual((self.numbers(server), server.errors()), ([1, 2, 3, 4], []))
        event = {
            "to": {"tenant": "shop"},
            "fields": {"line": "é 3", "seq": "3"},
            "time_ns": 1700000003000000003,
            "tags": {"app": "a", "env": "é"},
        }
        self.assertEqual(server.events()[2], event)
        self.assertEqual(self.send(server, push([5])), 401)
        self.assertEqual(server.errors(), ["POST /loki/api/v1/push: no org id"])

    def test_what_breaks_the_protocol_is_refused_and_recorded(self):
        server = self.server()
        timeless, timed, metadata, binary = push([1]), push([1]), push([1]), push([1])
        timeless.streams[0].entries[0].ClearField("timestamp")
        timed.streams[0].entries[0].timestamp.nanos = 10**9
        metadata.streams[0].entries[0].structuredMetadata.add(name=b"seq")
        binary.streams[0].entries[0].line = b"\xff"
        long = push([1])
        long.streams[0].entries[0].line = b"x" * ((256 << 10) + 1)
        many = push([1], "{%s}" % ",".join('a%d="b"' % n for n in range(16)))
        bodies = [timeless, timed, metadata, binary, long, many, push([1], "{}"), push([]), PushRequest()]
        bodies += [b"\xff\xff", push([1]).SerializeToString() + b"\x78\x01"]
        for n, body in enumerate(bodies):
            self.assertEqual(self.send(server, body), 400, n)
        self.assertEqual(server.send(PATH, push([1]).SerializeToString(), PROTOBUF)[0], 400)
        self.assertEqual(self.send(server, push([1]), {"Content-Type": "application/json"}), 400)
        self.assertEqual(server.send("/api/prom/push", b"", PROTOBUF)[0], 404)
        self.assertEqual(len(server.errors()), len(bodies) + 3)
        self.assertEqual(server.events(), [])

    def test_poison_and_failures_are_no_mistakes(self):
        server = self.server("--poison", "é 2", "--fail", "429:1", "--fail", "500:1")
        statuses = [self.send(server, push(numbers)) for numbers in [[0], [0], [0], [1, 2, 3], [3]]]
        self.assertEqual(statuses, [429, 500, 204, 400, 204])
        self.assertEqual((self.numbers(server), server.errors()), ([0, 3], []))

    def test_an_entry_that_is_too_old(self):
        server = self.server("--max-age", "3600")
        self.assertEqual(self.send(server, push([1])), 400)
        self.assertEqual((server.events(), server.errors()), ([], []))


if __name__ == "__main__":
    unittest.main()
