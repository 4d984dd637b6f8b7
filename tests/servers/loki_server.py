"""A stand-in for Loki's push API, by protobuf with snappy.

`fields` has `line` and the structured metadata; `tags` are the stream's labels; `to` has the tenant."""

import re
import time

import cramjam

import common
import protobuf

# One label, with a string as Go quotes it.
LABEL = re.compile(r'\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*=\s*"((?:[^"\\\n]|\\.)*)"\s*')
ESCAPE = re.compile(r'\\(?:([abfnrtv\\"])|x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{3})|(.))')
PLAIN = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\", '"': '"'}


# Strings are bytes here: whether they are UTF-8 is for us to say.
(PushRequest,) = protobuf.classes(
    "logproto",
    {
        "Timestamp": [(1, "seconds", "one", "int64"), (2, "nanos", "one", "int32")],
        "Pair": [(1, "name", "one", "bytes"), (2, "value", "one", "bytes")],
        "Entry": [
            (1, "timestamp", "one", "Timestamp"),
            (2, "line", "one", "bytes"),
            (3, "structuredMetadata", "many", "Pair"),
        ],
        "Stream": [(1, "labels", "one", "bytes"), (2, "entries", "many", "Entry"), (3, "hash", "one", "uint64")],
        "PushRequest": [(1, "streams", "many", "Stream")],
    },
    "PushRequest",
)


def labels(source):
    """The labels of `{a="b", c="d"}`. Raises ValueError."""
    if not (source.startswith("{") and source.endswith("}")):
        raise ValueError("not in braces")
    rest, made = source[1:-1], {}
    while True:
        label = LABEL.match(rest)
        if label is None:
            raise ValueError("no label at %r" % rest[:50])
        name, value = label[1], unquoted(label[2])
        if name in made:
            raise ValueError("label %s twice" % name)
        made[name] = value
        rest = rest[label.end() :]
        if not rest:
            return made
        if rest[0] != ",":
            raise ValueError("no comma at %r" % rest[:50])
        rest = rest[1:]


def unquoted(source):
    """What stands between the quotes of a Go string. Raises ValueError."""

    def one(escape):
        plain, byte, short, long, octal, bad = escape.groups()
        if bad is not None:
            raise ValueError("escape \\%s" % bad)
        if plain is not None:
            return PLAIN[plain].encode()
        if byte is not None or octal is not None:
            return bytes([int(byte, 16) if byte is not None else int(octal, 8)])
        return chr(int(short or long, 16)).encode()

    parts, at = [], 0
    for escape in ESCAPE.finditer(source):
        parts += [source[at : escape.start()].encode(), one(escape)]
        at = escape.end()
    return (b"".join(parts) + source[at:].encode()).decode()


class Loki(common.Server):
    def add_arguments(self, parser):
        common.Credentials.add_arguments(parser)
        parser.add_argument("--tenants", action="store_true", help="X-Scope-OrgID is required")
        parser.add_argument("--max-line", type=int, default=256 << 10, metavar="BYTES")
        parser.add_argument("--max-labels", type=int, default=15)
        parser.add_argument("--max-age", type=float, metavar="SECONDS", help="of an entry; else any")

    def refused(self, status, text, is_mistake=True):
        headers = {"Content-Type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff"}
        return common.Refused(status, text + "\n", headers, text if is_mistake else None)

    def failure(self, code):
        text = "Ingestion rate limit exceeded for user" if code == "429" else "on demand"
        return self.refused(int(code), text, is_mistake=False)

    def answer(self, request):
        if request.path != "/loki/api/v1/push":
            raise self.refused(404, "404 page not found")
        if request.method != "POST":
            raise self.refused(405, "use POST")
        tenant = request.headers.get("x-scope-orgid")
        if self.args.tenants and not tenant:
            raise self.refused(401, "no org id")
        if not common.Credentials.accept(self.args, request):
            raise self.refused(401, "unauthorized")
        if request.media_type() != "application/x-protobuf":
            raise self.refused(400, "Content-Type %r" % request.headers.get("content-type"))
        # The body itself is snappy: what says so is of remote write, and Loki does not look at it.
        if request.headers.get("content-encoding", "snappy") != "snappy":
            raise self.refused(400, "Content-Encoding %r" % request.headers["content-encoding"])
        try:
            push = protobuf.read(PushRequest, bytes(cramjam.snappy.decompress_raw(request.wire)))
        except (cramjam.DecompressionError, ValueError) as error:
            raise self.refused(400, str(error))
        to = {"tenant": tenant or "fake"}
        events = [line for stream in push.streams for line in self.stream(to, stream)]
        if not events:
            raise self.refused(400, "no entries")
        return common.Response(204, events=events)

    def stream(self, to, stream):
        try:
            text = stream.labels.decode()
            tags = labels(text)
        except ValueError as error:
            raise self.refused(400, "error parsing labels %r: %s" % (stream.labels, error))
        if len(tags) > self.args.max_labels:
            raise self.refused(400, "stream '%s' has %d label names; limit %d" % (text, len(tags), self.args.max_labels))
        for name, value in tags.items():
            if len(name) > 1024 or len(value) > 2048:
                raise self.refused(400, "stream '%s' has a label that is too long: %s" % (text, name))
        if not stream.entries:
            raise self.refused(400, "stream '%s' has no entries" % text)
        return [self.entry(to, tags, entry) for entry in stream.entries]

    def entry(self, to, tags, entry):
        if not entry.HasField("timestamp"):
            raise self.refused(400, "an entry without a timestamp")
        seconds, nanos = entry.timestamp.seconds, entry.timestamp.nanos
        if seconds <= 0 or not 0 <= nanos < 10**9:
            raise self.refused(400, "timestamp %d.%d" % (seconds, nanos))
        if self.args.max_age is not None and seconds < time.time() - self.args.max_age:
            raise self.refused(400, "entry has timestamp too old: %d" % seconds, is_mistake=False)
        if len(entry.line) > self.args.max_line:
            raise self.refused(400, "Max entry size '%d' bytes exceeded" % self.args.max_line)
        fields = {}
        try:
            fields["line"] = entry.line.decode()
            for pair in entry.structuredMetadata:
                name = pair.name.decode()
                if not name or name in fields:
                    raise ValueError("name %r, empty or twice" % name)
                fields[name] = pair.value.decode()
        except ValueError as error:
            raise self.refused(400, "entry: %s" % error)
        if self.is_poisoned(fields):
            raise self.refused(400, "an entry has " + self.args.poison, is_mistake=False)
        return common.event(to, fields, seconds * 10**9 + nanos, tags)


if __name__ == "__main__":
    Loki().run()
