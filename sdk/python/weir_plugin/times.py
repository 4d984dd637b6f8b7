"""From the ways in which logs write a time to nanoseconds since the Unix epoch.

There is no time zone database in the sandbox: a time without a zone is taken as UTC.
"""

from __future__ import annotations

import re
from datetime import date
from typing import Callable

_SECOND = 1_000_000_000
_EPOCH = date(1970, 1, 1).toordinal()
_MONTHS = {name: number for number, name in enumerate(b"jan feb mar apr may jun jul aug sep oct nov dec".split(), 1)}

ReadTime = Callable[[bytes], "int | None"]
"""From a text to nanoseconds since the epoch; `None` if it is no such time."""


def _nanoseconds(
    year: int, month: int, day: int, hour: int, minute: int, second: int, offset: int, nanosecond: int = 0
) -> int | None:
    if hour > 23 or minute > 59 or second > 60:
        return None
    try:
        days = date(year, month, day).toordinal() - _EPOCH
    except ValueError:
        return None
    # A leap second is the next second's start.
    seconds = days * 86_400 + hour * 3600 + minute * 60 + second - offset
    nanoseconds = seconds * _SECOND + nanosecond
    return nanoseconds if -(2**63) < nanoseconds < 2**63 else None


def _offset(sign: bytes | None, hours: bytes | None, minutes: bytes | None) -> int | None:
    if not sign or not hours or not minutes:
        return 0
    if int(hours) > 23 or int(minutes) > 59:
        return None
    seconds = int(hours) * 3600 + int(minutes) * 60
    return -seconds if sign == b"-" else seconds


_CLF = re.compile(rb"([0-9]{2})/([A-Za-z]{3})/([0-9]{4}):([0-9]{2}):([0-9]{2}):([0-9]{2}) ([+-])([0-9]{2})([0-9]{2})")


def parse_clf(text: bytes) -> int | None:
    """nginx's and Apache's `02/Jan/2006:15:04:05 -0700`."""
    match = _CLF.fullmatch(text)
    if match is None:
        return None
    day, name, year, hour, minute, second, sign, hours, minutes = match.groups()
    month, offset = _MONTHS.get(name.lower()), _offset(sign, hours, minutes)
    if month is None or offset is None:
        return None
    return _nanoseconds(int(year), month, int(day), int(hour), int(minute), int(second), offset)


_RFC3339 = re.compile(
    rb"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt ]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:[.,]([0-9]+))?"
    rb"(?:[Zz]|([+-])([0-9]{2}):?([0-9]{2}))?"
)


def parse_rfc3339(text: bytes) -> int | None:
    """RFC 3339 and the common ways to write ISO 8601: `T` or a space between, a fraction after `.` or `,`, the zone as
    `Z`, `+08:00`, `+0800` or left out, which is UTC."""
    match = _RFC3339.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, minute, second, fraction, sign, hours, minutes = match.groups()
    offset = _offset(sign, hours, minutes)
    if offset is None:
        return None
    nanosecond = int((fraction or b"0")[:9].ljust(9, b"0"))
    clock = (int(hour), int(minute), int(second))
    return _nanoseconds(int(year), int(month), int(day), *clock, offset, nanosecond)


_NUMBER = re.compile(rb"(-?)([0-9]+)(?:\.([0-9]+))?")


def _unix(unit: int) -> ReadTime:
    def parse(text: bytes) -> int | None:
        match = _NUMBER.fullmatch(text) if len(text) < 40 else None
        if match is None:
            return None
        sign, whole, fraction = match.groups()
        value = int(whole) * unit + int((fraction or b"0")[:9].ljust(9, b"0")) * unit // _SECOND
        return None if value >= 2**63 else -value if sign else value

    return parse


_FORMATS: dict[str, ReadTime] = {
    "clf": parse_clf,
    "rfc3339": parse_rfc3339,
    "unix": _unix(_SECOND),
    "unix_ms": _unix(1_000_000),
    "unix_us": _unix(1_000),
    "unix_ns": _unix(1),
}


class Remembering:
    """Reads times, and remembers the last texts: many lines have the time of the line before."""

    def __init__(self, parse: ReadTime, most: int = 512) -> None:
        self._parse = parse
        self._most = most
        self._known: dict[bytes, int | None] = {}

    def __call__(self, text: bytes) -> int | None:
        try:
            return self._known[text]
        except KeyError:
            if len(self._known) >= self._most:
                self._known.clear()
            time = self._known[text] = self._parse(text)
            return time

    def all(self, texts: list[bytes]) -> list[int | None]:
        """Those of many texts."""
        times = list(map(self._known.get, texts))
        if None in times:
            for i, time in enumerate(times):
                if time is None:
                    times[i] = self(texts[i])
        return times


def reader(format: str) -> Remembering:
    """What reads times of a format: `rfc3339`, `clf`, `unix`, `unix_ms`, `unix_us` or `unix_ns`. A `ValueError` names a
    format that is not known."""
    if format not in _FORMATS:
        raise ValueError(f"time format `{format}` is not known: use one of {', '.join(_FORMATS)}")
    return Remembering(_FORMATS[format])


def format_rfc3339(nanoseconds: int) -> str:
    """Nanoseconds since the epoch as RFC 3339 in UTC, with as many digits of a fraction as are needed."""
    seconds, fraction = divmod(nanoseconds, _SECOND)
    days, clock = divmod(seconds, 86_400)
    day = date.fromordinal(days + _EPOCH).isoformat()
    digits = f".{fraction:09}".rstrip("0") if fraction else ""
    return f"{day}T{clock // 3600:02}:{clock // 60 % 60:02}:{clock % 60:02}{digits}Z"
