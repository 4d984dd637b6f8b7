"""Parses lines such as `2024-05-01T12:00:00Z I checkout 12ms order 7 is paid`."""

from dataclasses import dataclass
from typing import Literal

from weir_plugin import DROP, KEEP, Event, Failure, Fate, Fields, Kind, Plugin, Row, export
from weir_plugin.times import parse_rfc3339

LEVELS = {"D": "debug", "I": "info", "W": "warn", "E": "error"}


@dataclass
class Settings:
    """What the plugin's user may set."""

    drop: Literal["debug", "info", "warn", "error"] | None = None
    """Lines of this level are left out: debug, info, warn or error."""


class Parser(Plugin[Settings]):
    def __init__(self, settings: Settings, fields: Fields) -> None:
        self.drop = settings.drop
        self.level = fields.add("level")
        self.service = fields.add("service")
        self.duration = fields.add("duration_ms", Kind.INTEGER)
        self.message = fields.add("message")

    def event(self, event: Event, row: Row) -> Fate:
        parts = event.text().split(" ", 4)
        if len(parts) < 5:
            raise Failure("not TIME LEVEL SERVICE DURATION MESSAGE")
        when, letter, service, duration, message = parts
        level = LEVELS.get(letter)
        if level is None:
            raise Failure("no such level")
        if level == self.drop:
            return DROP
        number = duration.removesuffix("ms")
        if number == duration or not (number.isascii() and number.isdigit()):
            raise Failure("no such duration")
        time = parse_rfc3339(when.encode())
        if time is None:
            raise Failure("no such time")
        row.time(time)
        row.put(self.level, level)
        row.put(self.service, service)
        row.put(self.duration, number)
        row.put(self.message, message)
        row.pass_all_but(event)  # what an earlier plugin has found
        return KEEP


export(Parser)
