"""What comes in: a batch, and one event of it."""

from __future__ import annotations

from typing import Iterator, NamedTuple, Sequence

from .kind import Kind
from .wire import CONTENT, UNKNOWN_TIME, Input


class Cell(NamedTuple):
    """One cell of an event."""

    field: int
    """Index of its field in the batch."""
    name: str
    """The field's name."""
    kind: Kind
    """The field's kind."""
    start: int
    """Where its bytes begin in `Event.data`."""
    end: int
    """Where they end."""


class Batch:
    """Events of one source, in order."""

    __slots__ = ("_cells", "_content", "_fields", "_rows", "_times", "data", "is_raw", "tags")

    data: bytes
    """What the cells point into."""
    tags: Sequence[tuple[str, str]]
    """The source's tags."""
    is_raw: bool
    """Whether all events are raw lines and nothing else."""

    def __init__(self, wire: Input) -> None:
        self.data = wire.data
        self.tags = wire.tags
        self._fields = [(field.name, Kind[field.kind.name]) for field in wire.fields]
        self._rows = wire.rows
        self._cells = wire.cells
        self._times = wire.times
        names = [name for name, _ in self._fields]
        self._content = names.index(CONTENT) if CONTENT in names else -1
        one_each = len(self._cells) == 3 * len(self._rows) and list(self._rows) == list(range(1, len(self._rows) + 1))
        self.is_raw = names == [CONTENT] and one_each

    def __len__(self) -> int:
        return len(self._rows)

    def event(self, index: int) -> Event:
        """The event of that index."""
        event = Event(self)
        event._move(index)
        return event

    def __iter__(self) -> Iterator[Event]:
        """All events, in order."""
        return map(self.event, range(len(self._rows)))


class Event:
    """One event: cells of fields. It is yours until `event` returns: the next one is the same object."""

    __slots__ = ("_batch", "data", "end", "index", "start")

    data: bytes
    """What all cells of the batch point into."""
    index: int
    """Its place in the batch."""
    start: int
    """Where `content` begins in `data`."""
    end: int
    """Where `content` ends in `data`; 0 and 0 if the event has none."""

    def __init__(self, batch: Batch) -> None:
        self._batch = batch
        self.data = batch.data
        self.index = self.start = self.end = 0

    def _move(self, index: int) -> None:
        batch = self._batch
        self.index = index
        if batch.is_raw:
            self.start, self.end = batch._cells[3 * index + 1], batch._cells[3 * index + 2]
            return
        self.start = self.end = 0
        for at in self._places():
            if batch._cells[at] == batch._content:
                self.start, self.end = batch._cells[at + 1], batch._cells[at + 2]
                return

    def _places(self) -> range:
        rows = self._batch._rows
        return range(3 * rows[self.index - 1] if self.index else 0, 3 * rows[self.index], 3)

    @property
    def content(self) -> bytes:
        """The bytes of the field `content`, where a raw line is; empty if the event has none."""
        return self.data[self.start : self.end]

    def text(self) -> str:
        """The field `content` as text. If it is not UTF-8 the event fails, with that reason."""
        return self.data[self.start : self.end].decode()

    def get(self, name: str) -> bytes | None:
        """The bytes of the first cell of the field with that name."""
        for cell in self.cells():
            if cell.name == name:
                return self.data[cell.start : cell.end]
        return None

    def cells(self) -> list[Cell]:
        """All cells, in order."""
        batch = self._batch
        cells = []
        for at in self._places():
            field, start, end = batch._cells[at : at + 3]
            name, kind = batch._fields[field]
            cells.append(Cell(field, name, kind, start, end))
        return cells

    @property
    def is_raw(self) -> bool:
        """Whether the event is a raw line and nothing else."""
        places = self._places()
        return len(places) == 1 and self._batch._cells[places[0]] == self._batch._content

    @property
    def time(self) -> int | None:
        """Nanoseconds since the Unix epoch, if known."""
        times = self._batch._times
        time = times[self.index] if times else UNKNOWN_TIME
        return None if time == UNKNOWN_TIME else time
