"""nginx access logs in the formats `combined` and `main`, as weir's own plugin `nginx` parses them."""

from dataclasses import dataclass
from typing import Literal

from unescape import unescape
from weir_plugin import Fields, Kind, RegexPlugin, export


@dataclass
class Settings:
    format: Literal["combined", "main"] = "combined"
    """Which of the formats that nginx comes with."""
    unescape: bool = True
    """Whether the escapes of nginx and of JSON in quoted values are undone."""


# Nothing goes back over what it has matched, but a URI to where the protocol begins: a line of another form fails soon.
def until(stop: bytes, rest: bytes) -> bytes:
    """What ends where a byte is first met with the rest behind it."""
    return rb"(?>[^%b]*(?:%b(?!%b)[^%b]*)*)" % (stop, stop, rest, stop)


def quoted(rest: bytes) -> bytes:
    """What ends at a quote with the rest behind it. A backslash escapes."""
    return rb'[^"\\]*(?:(?:\\.|"(?!%b))[^"\\]*)*' % rest


def atomic(pattern: bytes) -> bytes:
    return rb"(?>%b)" % pattern


COMBINED = (
    rb"(?P<remote_addr>%b) - (?P<remote_user>%b) \[(?P<time_local>%b)\] "
    rb'"(?>(?:(?P<request_method>[^ "\\]*+) (?P<request_uri>%b) (?P<server_protocol>HTTP/[^ "\\]*+)|(?P<request>%b))" )'
    rb'(?P<status>[^ ]*+) (?P<body_bytes_sent>%b) "(?P<http_referer>%b)" "(?P<http_user_agent>%b)"'
)
FORWARDED = rb' "(?P<http_x_forwarded_for>%b)"'

# Nearly all lines have no backslash: they are of a simple form, which is matched much faster.
WORD, TEXT = rb"[^ ]*+", rb'[^"]*+'
SIMPLE = rb"(?![^\\]*+\\)" + COMBINED % (WORD, WORD, rb"[^\]]*+", rb'[^"]*', TEXT, WORD, TEXT, TEXT)
LAST = atomic(rb'[^"\\]*(?:\\.[^"\\]*)*')
ANY = COMBINED % (
    until(b" ", b"- "),
    until(b" ", rb"\["),
    until(rb"\]", b' "'),
    quoted(b" "),
    atomic(quoted(b" ")),
    until(b" ", b'"'),
    atomic(quoted(b' "')),
    b"%b",
)
FORMATS = {
    "combined": (SIMPLE, ANY % LAST),
    "main": (SIMPLE + FORWARDED % TEXT, ANY % atomic(quoted(b' "')) + FORWARDED % LAST),
}

QUOTED = (
    "request_method",
    "request_uri",
    "server_protocol",
    "request",
    "http_referer",
    "http_user_agent",
    "http_x_forwarded_for",
)


class Nginx(RegexPlugin[Settings]):
    kinds = {"status": Kind.INTEGER, "body_bytes_sent": Kind.INTEGER}
    time = ("time_local", "clf")

    def __init__(self, settings: Settings, fields: Fields) -> None:
        self.pattern = FORMATS[settings.format]
        if settings.unescape:
            self.unescape = {name: unescape for name in QUOTED if name.encode() in self.pattern[0]}
        super().__init__(settings, fields)


export(Nginx)
