"""The flat arrays that cross the sandbox's wall; see docs/contract.md."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol, Sequence

CONTENT = "content"
"""The field of a raw line."""

UNKNOWN_TIME = -(2**63)
"""Nanoseconds that mean "unknown"."""


def well_formed(text: str) -> str:
    """The text with `?` for half surrogate pairs: what crosses the wall is UTF-8, which has none."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


class FieldLike(Protocol):
    """A field of an input, as the component's bindings have it."""

    @property
    def name(self) -> str: ...

    @property
    def kind(self) -> KindLike: ...


class KindLike(Protocol):
    """A kind, as the component's bindings have it."""

    @property
    def name(self) -> str: ...


class Input(Protocol):
    """A batch, as the component's bindings have it."""

    @property
    def tags(self) -> Sequence[tuple[str, str]]: ...

    @property
    def data(self) -> bytes: ...

    @property
    def fields(self) -> Sequence[FieldLike]: ...

    @property
    def rows(self) -> Sequence[int]: ...

    @property
    def cells(self) -> Sequence[int]: ...

    @property
    def times(self) -> Sequence[int]: ...


@dataclass
class Output:
    """What became of a batch."""

    made: bytes = b""
    rows: list[int] = field(default_factory=list)
    cells: list[int] = field(default_factory=list)
    times: list[int] = field(default_factory=list)
    origins: list[int] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    failed: list[int] = field(default_factory=list)
    held: int = 0
