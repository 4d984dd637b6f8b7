"""The fast way: one regular expression, whose named groups are the fields.

It is run over the bytes of the whole batch, and the output is made of its spans, without an object for each event.
"""

from __future__ import annotations

import re
from itertools import accumulate, chain, compress, repeat
from operator import methodcaller
from typing import Callable, Mapping

from .event import Batch, Event
from .kind import Kind
from .out import FieldId, Fields, Out, Row
from .plugin import DROP, KEEP, Failure, Fate, Plugin, S
from .times import Remembering, reader
from .wire import CONTENT, UNKNOWN_TIME

def _compiled(pattern: bytes) -> re.Pattern[bytes]:
    try:
        regex = re.compile(pattern)
    except re.error as error:
        raise ValueError(f"pattern: {error}") from None
    if not regex.groupindex:
        raise ValueError("pattern: it has no named group such as (?P<level>[a-z]+)")
    return regex


_START, _END = re.Match.start, re.Match.end

Unescape = Callable[[bytes], bytes]
"""From a value with a backslash in it to what it stands for."""

# What looks at the bytes around a line, or takes the batch's ends for the line's.
_LOOKS_AROUND = re.compile(rb"\^|\$|\\[AZzbB]|\(\?<[=!]")


class RegexPlugin(Plugin[S]):
    """A parser by a regular expression, which must match the whole line: each named group is a field, in their order.
    A group that takes no part makes no cell.

        class Level(RegexPlugin[NoSettings]):
            pattern = rb"(?P<level>[a-z]+): (?P<message>.*)"

    All of these may also be set in `__init__`, before `super().__init__(settings, fields)` is called.
    """

    pattern: bytes | tuple[bytes, ...] = b""
    """The regular expression, of Python's `re`. Several with the same groups are tried in turn: a simple one first, for
    most lines, is faster than one that does it all."""
    kinds: Mapping[str, Kind] = {}
    """The kinds of groups that are not text."""
    time: tuple[str, str] | None = None
    """The group that has the event's time, and its format: see `times.reader`."""
    unescape: Mapping[str, Unescape] = {}
    """What undoes the backslashes in values of a group; called only where there is one."""
    mismatch: str = "the line does not match"
    """The reason of an event that is of another form."""

    def __init__(self, settings: S, fields: Fields) -> None:
        super().__init__(settings, fields)
        patterns = (self.pattern,) if isinstance(self.pattern, bytes) else self.pattern
        regexes = [_compiled(pattern) for pattern in patterns]
        groups = regexes[0].groupindex
        for pattern in regexes[1:]:
            if pattern.groups != regexes[0].groups or pattern.groupindex != groups:
                raise ValueError("pattern: the groups of all patterns must be the same")
        for name in [*self.kinds, *self.unescape, *([self.time[0]] if self.time else [])]:
            if name not in groups:
                raise ValueError(f"pattern: it has no group `{name}`")
        self._regexes = [regex.fullmatch for regex in regexes]
        self._looks_around = any(_LOOKS_AROUND.search(pattern.replace(b"[^", b"[")) for pattern in patterns)
        self._fields = {group: fields.add(name, self.kinds.get(name, Kind.TEXT)) for name, group in groups.items()}
        self._unescape = {groups[name]: undo for name, undo in self.unescape.items()}
        self._time: tuple[int, Remembering] | None = None
        if self.time:
            self._time = (groups[self.time[0]], reader(self.time[1]))

    def batch(self, batch: Batch, last: bool, out: Out) -> None:
        plain = type(self).event is RegexPlugin.event and type(self).keep is RegexPlugin.keep
        if plain and batch.is_raw and not self._looks_around:
            self._whole(batch, out)
        else:
            super().batch(batch, last, out)

    def keep(self, match: re.Match[bytes]) -> bool:
        """Whether an event that matches goes on; else it is dropped."""
        return True

    def event(self, event: Event, row: Row) -> Fate:
        line, offset = event.content, event.start
        match = next(filter(None, (fullmatch(line) for fullmatch in self._regexes)), None)
        if match is None:
            raise Failure(self.mismatch)
        if not self.keep(match):
            return DROP
        for group, field in self._fields.items():
            start, end = match.span(group)
            if start < 0:
                continue
            if group in self._unescape and b"\\" in match[group]:
                row.put(field, self._unescape[group](match[group]))
            else:
                row.put_span(field, offset + start, offset + end)
        if self._time and match[self._time[0]] is not None:
            time = self._time[1](match[self._time[0]])
            if time is not None:
                row.time(time)
        row.pass_all_but(event, CONTENT)
        return KEEP

    def _whole(self, batch: Batch, out: Out) -> None:
        """As `event` for each, but column by column: nearly all of it runs outside of the interpreter."""
        data, (fullmatch, *others) = batch.data, self._regexes
        lines = zip(batch._cells[1::3], batch._cells[2::3])
        matches = [fullmatch(data, start, end) for start, end in lines]
        for fullmatch in others:
            if None in matches:
                for i in [i for i, match in enumerate(matches) if match is None]:
                    matches[i] = fullmatch(data, batch._cells[3 * i + 1], batch._cells[3 * i + 2])
        if None in matches:
            kept = self._without_failed(matches, out)
        else:
            kept = matches  # type: ignore[assignment]
            out._next = len(kept)
        if self._time:
            self._times(kept, out)
        # A column is a list of each group's starts or ends.
        starts = [list(map(_START, kept, repeat(group))) for group in self._fields]
        ends = [list(map(_END, kept, repeat(group))) for group in self._fields]
        if self._unescape and b"\\" in data:
            self._undo(data, starts, ends, out)
        count = len(kept)
        absent = [column.count(-1) for column in starts]
        if all(missing in (0, count) for missing in absent):
            present = [i for i, missing in enumerate(absent) if not missing]
            fields = list(self._fields.values())
            stride = 3 * len(present)
            out._cells += [0] * (stride * count)
            for at, i in enumerate(present):
                out._cells[3 * at :: stride] = [fields[i]] * count
                out._cells[3 * at + 1 :: stride] = starts[i]
                out._cells[3 * at + 2 :: stride] = ends[i]
            out._output.rows += range(len(present), len(present) * count + 1, len(present)) if present else [0] * count
        else:
            self._some(starts, ends, count, out)

    def _some(self, starts: list[list[int]], ends: list[list[int]], count: int, out: Out) -> None:
        """Where a group takes part in some events only."""
        taking = [start >= 0 for start in chain.from_iterable(zip(*starts))]
        rows = list(accumulate(taking))[len(starts) - 1 :: len(starts)]
        out._output.rows += rows
        out._cells += [0] * (3 * rows[-1])
        out._cells[0::3] = compress(list(self._fields.values()) * count, taking)
        out._cells[1::3] = compress(chain.from_iterable(zip(*starts)), taking)
        out._cells[2::3] = compress(chain.from_iterable(zip(*ends)), taking)

    def _without_failed(self, matches: list[re.Match[bytes] | None], out: Out) -> list[re.Match[bytes]]:
        kept = []
        for i, match in enumerate(matches):
            if match is None:
                out._next = i
                out.fail(i, self.mismatch)
            else:
                kept.append(match)
        out._next = len(matches)
        return kept

    def _times(self, kept: list[re.Match[bytes]], out: Out) -> None:
        assert self._time is not None
        group, read = self._time
        times = read.all([text or b"" for text in map(methodcaller("group", group), kept)])
        inherited = out._input._times
        if None not in times:
            out._output.times += times  # type: ignore[arg-type]
        elif inherited:
            failed = set(out._output.failed[::2])
            before = [time for i, time in enumerate(inherited) if i not in failed]
            out._output.times += [old if time is None else time for time, old in zip(times, before)]
        elif any(time is not None for time in times):
            out._output.times += [UNKNOWN_TIME if time is None else time for time in times]

    def _undo(self, data: bytes, starts: list[list[int]], ends: list[list[int]], out: Out) -> None:
        find, made, base = data.find, out._made, len(data)
        for column, group in enumerate(self._fields):
            undo = self._unescape.get(group)
            if undo is None:
                continue
            for i, (start, end) in enumerate(zip(starts[column], ends[column])):
                if start >= 0 and find(b"\\", start, end) >= 0:
                    starts[column][i] = base + len(made)
                    made += undo(data[start:end])
                    ends[column][i] = base + len(made)
