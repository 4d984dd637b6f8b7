"""For pytest and unittest: feed lines to a plugin, natively, and read events back.

What the plugin returns is held to the contract as the host does, so that a test fails where the host would.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Iterable, Sequence, Union

from . import host
from .kind import Kind
from .plugin import Exported, S, as_plugin
from .runner import Runner
from .times import format_rfc3339, parse_rfc3339
from .wire import CONTENT, UNKNOWN_TIME, Output

Line = Union[str, bytes]


@dataclass
class TestEvent:
    """An event that came out."""

    __test__ = False  # It is no test of pytest's.

    cells: list[tuple[str, Kind, str]]
    """Name, kind and value of each cell; bytes that are not UTF-8 are replaced."""
    origin: tuple[int, int]
    """The input events that it came from: the first, and the one after the last."""
    time: int | None = None
    """Nanoseconds since the Unix epoch."""
    error: str | None = None
    """Why it was shipped unchanged, if it failed."""

    def get(self, name: str) -> str | None:
        """The value of the first cell of that field."""
        return next((value for known, _, value in self.cells if known == name), None)

    def pairs(self) -> list[tuple[str, str]]:
        """Names and values of all cells."""
        return [(name, value) for name, _, value in self.cells]


@dataclass
class Processed:
    """What became of a batch."""

    events: list[TestEvent]
    """Kept and failed events, in the order in which the host ships them."""
    dropped: int
    """Input events that were dropped on purpose."""
    held: int
    """Input events at the end that are held."""


class Harness:
    """A plugin with its settings, to be given several batches."""

    def __init__(self, plugin: Exported[S], settings: str | dict[str, object] = "{}") -> None:
        """Configures a plugin. A `ValueError` is what the settings' author is shown."""
        text = settings if isinstance(settings, str) else json.dumps(settings)
        self._runner = Runner(as_plugin(plugin), text)

    def process(self, lines: Iterable[Line], last: bool = True) -> Processed:
        """Gives the plugin a batch of raw lines. An `AssertionError` says where the output breaks the contract."""
        return self.process_cells([[(CONTENT, Kind.TEXT, line)] for line in lines], last)

    def process_cells(
        self,
        events: Sequence[Sequence[tuple[str, Kind, Line]]],
        last: bool = True,
        times: Sequence[int] = (),
    ) -> Processed:
        """Gives the plugin a batch of events with these cells."""
        batch = _batch(events, times)
        output = self._runner.process(batch, last)
        return _read(batch, output, self._runner.fields.list)


def run(plugin: Exported[S], lines: Iterable[Line], settings: str | dict[str, object] = "{}") -> list[TestEvent]:
    """Configures a plugin, gives it these lines as its last batch, and reads the events back."""
    return Harness(plugin, settings).process(lines).events


@dataclass
class _Field:
    name: str
    kind: Kind


@dataclass
class _Batch:
    tags: list[tuple[str, str]] = field(default_factory=list)
    data: bytes = b""
    fields: list[_Field] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    cells: list[int] = field(default_factory=list)
    times: list[int] = field(default_factory=list)


def _batch(events: Sequence[Sequence[tuple[str, Kind, Line]]], times: Sequence[int]) -> _Batch:
    batch = _Batch(times=list(times))
    data = bytearray()
    for event in events:
        for name, kind, value in event:
            known = _Field(name, kind)
            if known not in batch.fields:
                batch.fields.append(known)
            start = len(data)
            data += value.encode() if isinstance(value, str) else value
            batch.cells += (batch.fields.index(known), start, len(data))
        data += b"\n"
        batch.rows.append(len(batch.cells) // 3)
    batch.data = bytes(data)
    return batch


def _read(batch: _Batch, out: Output, fields: list[tuple[str, Kind]]) -> Processed:
    inputs = len(batch.rows)
    assert 0 <= out.held <= inputs, f"{out.held} events are held, but there were {inputs}"
    fates = ["dropped"] * (inputs - out.held)
    events = []
    own = [(field.name, field.kind) for field in batch.fields]
    for event, reason in zip(out.failed[::2], out.failed[1::2]):
        assert fates[event] == "dropped", f"event {event} fails twice"
        fates[event] = "failed"
        cells = _row(batch.data, b"", own, batch.rows, batch.cells, event)
        events.append(TestEvent(cells, (event, event + 1), None, out.reasons[reason]))
    origins = list(zip(out.origins[::2], out.origins[1::2]))
    if not origins and out.rows:
        origins = [(i, i + 1) for i, fate in enumerate(fates) if fate != "failed"]
    assert len(origins) == len(out.rows), f"{len(origins)} origins for {len(out.rows)} events"
    assert len(out.times) in (0, len(out.rows)), "no time, or one an event"
    for row, (first, end) in enumerate(origins):
        assert 0 <= first < end <= len(fates), f"origin {first}..{end} of event {row} is out of bounds"
        assert row == 0 or origins[row - 1][0] <= first, f"origins decrease at event {row}"
        for i in range(first, end):
            assert fates[i] != "failed", f"event {row} comes from an event that failed"
            fates[i] = "kept"
        cells = _row(batch.data, out.made, fields, out.rows, out.cells, row)
        times = out.times[row : row + 1] or batch.times[first : first + 1]
        known = [time for time in times if time != UNKNOWN_TIME]
        events.append(TestEvent(cells, (first, end), known[0] if known else None))
    events.sort(key=lambda event: event.origin[0])
    return Processed(events, fates.count("dropped"), out.held)


def _row(
    data: bytes, made: bytes, fields: list[tuple[str, Kind]], rows: Sequence[int], cells: Sequence[int], row: int
) -> list[tuple[str, Kind, str]]:
    first, end = rows[row - 1] if row else 0, rows[row]
    assert 0 <= first <= end and 3 * end <= len(cells), f"row {row} has the cells {first}..{end}, which are not there"
    found = []
    for at in range(3 * first, 3 * end, 3):
        number, begin, stop = cells[at : at + 3]
        is_made = begin >= len(data) and begin < stop
        within = 0 <= begin <= stop <= len(data) + len(made) and (is_made or stop <= len(data) or begin == stop)
        assert within, f"a cell of row {row} leaves its bytes"
        value = made[begin - len(data) : stop - len(data)] if is_made else data[begin:stop]
        name, kind = fields[number]
        assert name and len(name.encode()) <= 256 and not name.startswith("__"), f"no field may be named {name!r}"
        found.append((name, kind, value.decode(errors="replace")))
    return found


def golden(plugin: Exported[S], name: str, directory: str | Path) -> None:
    """Runs all golden cases of a directory. A case is three files: the lines `CASE.log` or the events
    `CASE.events.ndjson`, the settings `CASE.settings.json`, and `CASE.expected.ndjson`: what weir's NDJSON would be,
    without the source's tags. `CASE.files` is the directory that is granted, if there is one.

    Errors are written as the host does, behind the plugin's `name`. An `AssertionError` has the lines that differ.
    """
    directory = Path(directory)
    names = (_CASE.fullmatch(path.name) for path in directory.iterdir())
    cases = sorted({name[1] for name in names if name})
    assert cases, f"{directory} has no golden case"
    differences = "".join(_case(plugin, name, directory, case) for case in cases)
    assert not differences, f"golden files of {name}:\n{differences}"


_CASE = re.compile(r"(.+?)\.(?:log|events\.ndjson|settings\.json|expected\.ndjson)")


def _case(plugin: Exported[S], name: str, directory: Path, case: str) -> str:
    settings = directory / f"{case}.settings.json"
    granted = directory / f"{case}.files"
    host.files[:] = [granted] if granted.is_dir() else []
    try:
        harness = Harness(plugin, settings.read_text("utf-8") if settings.exists() else "{}")
    except ValueError as error:
        raise AssertionError(f"{case}.settings.json: {error}") from error
    finally:
        host.files.clear()
    log = directory / f"{case}.log"
    if log.exists():
        out = harness.process(_lines(log.read_bytes()))
    else:
        events = [_event(line.decode()) for line in _lines((directory / f"{case}.events.ndjson").read_bytes())]
        times = [time for _, time in events]
        unknown = all(time == UNKNOWN_TIME for time in times)
        out = harness.process_cells([cells for cells, _ in events], times=[] if unknown else times)
    path = directory / f"{case}.expected.ndjson"
    assert path.exists(), f"there is no {path}"
    expected = [line.decode() for line in _lines(path.read_bytes())]
    return _difference(case, expected, [_ndjson(name, event) for event in out.events])


def _lines(log: bytes) -> list[bytes]:
    """The lines of a file as weir reads them: a carriage return at the end of one is none of it."""
    if not log:
        return []
    lines = (log[:-1] if log.endswith(b"\n") else log).split(b"\n")
    return [line[:-1] if line.endswith(b"\r") else line for line in lines]


def _event(line: str) -> tuple[list[tuple[str, Kind, Line]], int]:
    """An event of the members of a JSON object. Values other than strings stay as they are written."""
    cells: list[tuple[str, Kind, Line]] = []
    time = UNKNOWN_TIME
    for name, value, text in _members(line):
        if name == "__time__":
            known = parse_rfc3339(str(value).encode())
            assert known is not None, f"__time__: {text} is not RFC 3339"
            time = known
            continue
        assert not name.startswith("__"), f"`{name}`: of the names that begin with `__` an event has only __time__"
        if isinstance(value, str):
            cells.append((name, Kind.TEXT, value))
        elif value is not None:
            kinds = {bool: Kind.BOOLEAN, int: Kind.INTEGER, float: Kind.FLOAT}
            cells.append((name, kinds.get(type(value), Kind.JSON), text))
    return cells, time


def _members(line: str) -> list[tuple[str, object, str]]:
    """The members of a JSON object in their order: names, values, and the values as they are written."""
    try:
        assert isinstance(json.loads(line, parse_constant=_refuse), dict), f"it is no JSON object: {line}"
    except ValueError as error:
        raise AssertionError(f"it is no JSON object: {line}") from error
    # It is JSON, so that what stands between names and values need not be checked.
    members = []
    at = _behind(line, 0, "{")
    while line[at] != "}":
        name, at = _DECODER.raw_decode(line, at)
        start = _behind(line, at, ":")
        value, end = _DECODER.raw_decode(line, start)
        members.append((name, value, line[start:end]))
        at = _behind(line, end, ",")
    return members


_DECODER = json.JSONDecoder()
_BLANK = re.compile(r"[ \t\n\r]*")


def _behind(line: str, at: int, mark: str) -> int:
    """Where it goes on behind white space, the mark if it is there, and white space again."""
    for found in (_BLANK, re.compile(f"{re.escape(mark)}?"), _BLANK):
        match = found.match(line, at)
        at = match.end() if match else at
    return at


def _difference(case: str, expected: list[str], actual: list[str]) -> str:
    out = ""
    for i in range(max(len(expected), len(actual))):
        wanted = expected[i] if i < len(expected) else "(nothing)"
        got = actual[i] if i < len(actual) else "(nothing)"
        if wanted != got:
            out += f"{case}, event {i + 1}:\n  expected {wanted}\n       got {got}\n"
    return out


def _ndjson(plugin: str, event: TestEvent) -> str:
    """An event as weir's NDJSON encoder writes it."""
    pairs = [f"{_string(name)}:{value if _is_plain(kind, value) else _string(value)}" for name, kind, value in event.cells]
    if event.time is not None:
        pairs.append(f'"__time__":"{format_rfc3339(event.time)}"')
    if event.error is not None:
        pairs.append(f'"__error__":{_string(f"{plugin}: {event.error}")}')
    return "{" + ",".join(pairs) + "}"


def _string(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")


def _is_plain(kind: Kind, value: str) -> bool:
    """Whether the value is JSON of its kind, so that it is not quoted."""
    if kind is Kind.INTEGER:
        return _NUMBER.fullmatch(value) is not None and value.lstrip("-").isdigit()
    if kind is Kind.FLOAT:
        return _NUMBER.fullmatch(value) is not None
    if kind is Kind.BOOLEAN:
        return value in ("true", "false")
    if kind is Kind.JSON and value.strip() == value:
        try:
            json.loads(value, parse_constant=_refuse)
            return True
        except ValueError:
            return False
    return False


def _refuse(constant: str) -> object:
    raise ValueError(constant)

