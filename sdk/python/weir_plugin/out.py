"""What goes out: fields, cells, and what became of each input event."""

from __future__ import annotations

import json
from typing import Mapping, NewType, Sequence, Union

from .event import Batch, Event
from .kind import Kind
from .wire import CONTENT, UNKNOWN_TIME, Output, well_formed

FieldId = NewType("FieldId", int)
"""A field that a plugin makes; from `Fields.add`."""

Value = Union[bytes, str, int, float, bool, Sequence[object], Mapping[str, object], None]
"""What can be put into a cell. Nothing is put for `None`."""

_NAME_BYTES = 256
_LAST_TIME = 2**63 - 1


class Fields:
    """The fields that a plugin makes."""

    def __init__(self) -> None:
        self.list: list[tuple[str, Kind]] = []
        self._index: dict[tuple[str, Kind], FieldId] = {}
        self._fixed = 0

    def add(self, name: str, kind: Kind = Kind.TEXT) -> FieldId:
        """The field of that name and kind; the same one if it exists.

        A name that may not be a field's, which can only come from data, is changed into one that may: see `allowed`.
        """
        known = self._index.get((name, kind))
        if known is not None:
            return known
        allowed = (self.allowed(name), kind)
        field = self._index.get(allowed)
        if field is None:
            if not isinstance(kind, Kind):
                raise TypeError(f"field `{name}`: its kind is one of Kind, not {type(kind).__name__}")
            field = self._index[allowed] = FieldId(len(self.list))
            self.list.append(allowed)
        return field

    @staticmethod
    def allowed(name: str) -> str:
        """The name itself, if it may be a field's; else without all but one of its leading `_`, cut to 256 bytes, and
        `_` for nothing."""
        if name.startswith("__"):
            name = "_" + name.lstrip("_")
        cut = name.encode("utf-8", "replace")[:_NAME_BYTES].decode("utf-8", "ignore")
        return cut or "_"

    @staticmethod
    def check(name: str) -> None:
        """Refuses a name that a user has chosen, if it may not be a field's: a `ValueError` that says why."""
        if not name:
            raise ValueError("a field's name must not be empty")
        if name.startswith("__"):
            raise ValueError(f"field `{name}`: names that begin with `__` belong to the host")

    def __len__(self) -> int:
        return len(self.list)

    def _fix(self) -> None:
        self._fixed = len(self.list)

    def _is_over(self, most: int) -> bool:
        return len(self.list) - self._fixed > most


class Out:
    """The output of a batch, while it is made."""

    def __init__(self, fields: Fields, input: Batch) -> None:
        self.fields = fields
        """The fields, to name new ones."""
        self._input = input
        self._made = bytearray()
        self._output = Output()
        self._cells = self._output.cells
        # Where the open row began.
        self._row_cells = self._row_made = 0
        self._row_time = UNKNOWN_TIME
        # Output events so far are one to one with the input events that neither failed nor were held.
        self._one_to_one = True
        # The input events before this one have been kept or have failed.
        self._next = 0
        self._reasons: dict[str, int] = {}
        self._row = Row(self)

    def row(self, event: Event) -> Row:
        """Begins an output event that inherits the time of `event`."""
        if self._input._times:
            self._row_time = self._input._times[event.index]
        return self._row

    def keep(self, first: int, end: int) -> None:
        """Ends the open row as one output event that came from the input events `first` up to `end`."""
        output = self._output
        if self._one_to_one and (first != self._next or end != first + 1):
            self._list_origins()
        if not self._one_to_one:
            output.origins += (first, end)
        self._next = end
        if self._row_time != UNKNOWN_TIME or output.times:
            output.times += [UNKNOWN_TIME] * (len(output.rows) - len(output.times))
            output.times.append(self._row_time)
            self._row_time = UNKNOWN_TIME
        self._row_cells = len(self._cells)
        self._row_made = len(self._made)
        output.rows.append(self._row_cells // 3)

    def forget(self) -> None:
        """Forgets the open row. Its input event counts as dropped unless it is kept otherwise."""
        del self._cells[self._row_cells :]
        del self._made[self._row_made :]
        self._row_time = UNKNOWN_TIME

    def fail(self, index: int, reason: str) -> None:
        """Forgets the open row, and has the input event of that index shipped unchanged, marked with the reason."""
        self.forget()
        if self._one_to_one and index != self._next:
            self._list_origins()
        self._next = index + 1
        number = self._reasons.setdefault(reason, len(self._reasons))
        self._output.failed += (index, number)

    def hold(self, events: int) -> None:
        """Has the last so many input events given again, before the next ones."""
        self.forget()
        self._output.held = events

    def _list_origins(self) -> None:
        self._one_to_one = False
        self._output.origins += self._kept()

    def _kept(self) -> list[int]:
        """The origins of output events that are one to one with the input events so far that did not fail."""
        failed = set(self._output.failed[::2])
        return [end for i in range(self._next) if i not in failed for end in (i, i + 1)]

    def _finish(self) -> Output:
        del self._row  # It refers to this: nothing else would free the batch before the collector does.
        output = self._output
        if self._one_to_one and self._next < len(self._input) - output.held:
            # The events after the last kept one were dropped.
            output.origins = self._kept()
        output.made = bytes(self._made)
        output.reasons = [well_formed(reason) for reason in self._reasons]
        return output


class Row:
    """The open row of an output: where an event's cells are put."""

    __slots__ = ("_base", "_cells", "_end", "_fields", "_first", "_made", "_out")

    def __init__(self, out: Out) -> None:
        self._out = out
        self._cells = out._cells
        self._made = out._made
        self._fields = out.fields.list
        self._base = len(out._input.data)
        # Where spans may lie.
        self._first, self._end = 0, self._base

    def put(self, field: FieldId | str, value: Value) -> None:
        """Adds a cell of a field, or of the field of that name and of the kind that the value's type says: text for
        `str` and `bytes`, integer, float, boolean; JSON for lists and dictionaries. Nothing for `None`."""
        if value is None:
            return
        if isinstance(value, str):
            kind, value = Kind.TEXT, value.encode("utf-8", "surrogateescape")
        elif isinstance(value, (bytes, bytearray, memoryview)):
            kind = Kind.TEXT
        elif isinstance(value, bool):
            kind, value = Kind.BOOLEAN, b"true" if value else b"false"
        elif isinstance(value, int):
            kind, value = Kind.INTEGER, str(value).encode()
        elif isinstance(value, float):
            kind, value = Kind.FLOAT, repr(value).encode()
        else:
            text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
            kind, value = Kind.JSON, text.encode("utf-8", "replace")
        if isinstance(field, str):
            field = self._out.fields.add(field, kind)
        elif type(field) is not int or not 0 <= field < len(self._fields):
            raise _no_field(field)
        made = self._made
        start = self._base + len(made)
        made += value
        self._cells += (field, start, self._base + len(made))

    def put_span(self, field: FieldId, start: int, end: int) -> None:
        """Adds a cell that is a range of `Event.data`: its bytes are pointed at, not copied. A `ValueError` says that it
        leaves the line."""
        # What is wrong here is refused by the host, which does not know the plugin's line.
        if type(field) is not int or not 0 <= field < len(self._fields):
            raise _no_field(field)
        if type(start) is not int or type(end) is not int:
            raise TypeError(f"a span is of two whole numbers, not of {type(start).__name__} and {type(end).__name__}")
        if not self._first <= start <= end <= self._end and not 0 <= start == end <= self._base:
            raise ValueError(f"the span from {start} to {end} leaves the event's bytes, {self._first} to {self._end}")
        self._cells += (field, start, end)

    def time(self, nanoseconds: int) -> None:
        """Sets the event's time, in nanoseconds since the Unix epoch."""
        if type(nanoseconds) is not int:
            raise TypeError(f"a time is a whole number of nanoseconds, not {type(nanoseconds).__name__}")
        if not UNKNOWN_TIME <= nanoseconds <= _LAST_TIME:
            raise ValueError(f"the time {nanoseconds} has more than 64 bits: it is in nanoseconds since 1970")
        self._out._row_time = nanoseconds

    def pass_all_but(self, event: Event, name: str = CONTENT) -> None:
        """Adds the cells of the event except those of the field with that name: what a parser does with the fields
        that were there before."""
        if self._out._input.is_raw and name == CONTENT:
            return
        for cell in event.cells():
            if cell.name != name:
                self._cells += (self._out.fields.add(cell.name, cell.kind), cell.start, cell.end)

    @property
    def fields(self) -> Fields:
        """The fields, to name new ones."""
        return self._out.fields

    def __len__(self) -> int:
        """How many cells the row has."""
        return (len(self._cells) - self._out._row_cells) // 3


def _no_field(field: object) -> Exception:
    """What is said of a field that is none."""
    if type(field) is int:
        return ValueError(f"there is no field {field}: give what `fields.add` returned")
    return TypeError(f"a field is what `fields.add` returned, not {type(field).__name__}")
