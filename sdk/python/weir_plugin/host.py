"""What the sandbox offers: a log, counters, and files if the agent's configuration grants them.

Outside of it, in tests, the log goes to standard error, the counters are in `counters`, and files come from `files`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Callable, Literal, get_args

from .wire import well_formed

Level = Literal["debug", "info", "warn", "error"]
"""How much a line matters."""

_LEVELS = get_args(Level)

counters: dict[str, int] = {}
"""In tests: what has been counted."""

files: list[Path] = []
"""In tests: the directory that is granted, if one is."""


def log(level: Level, message: str) -> None:
    """Writes a line to the agent's log, under the plugin's name."""
    if level not in _LEVELS:
        raise ValueError(f"there is no level `{level}`: use debug, info, warn or error")
    _log(level, well_formed(str(message)))


def count(name: str, amount: int = 1) -> None:
    """Adds to the counter of that name. The number of names is limited: what is over counts as `other`."""
    if type(amount) is not int:
        raise TypeError(f"a counter takes whole numbers, not {type(amount).__name__}")
    if not 0 <= amount < 2**64:
        raise ValueError(f"a counter only goes up, by less than 2^64, and not by {amount}")
    _count(well_formed(str(name)), amount)


def read_file(path: str) -> bytes:
    """The whole content of a file below the granted directory: for `__init__` only. An `OSError` says why not.

    The plugin's `pyproject.toml` must say `files = true` under `[tool.weir]`.
    """
    return _read_file(str(path))


def _native_log(level: Level, message: str) -> None:
    print(f"{level}: {message}", file=sys.stderr)


def _native_count(name: str, amount: int) -> None:
    counters[name] = counters.get(name, 0) + amount


def _native_read_file(path: str) -> bytes:
    if not files:
        raise OSError(f"{path}: no files are granted")
    if path.startswith("/") or ".." in path.split("/"):
        raise OSError(f"{path}: not below the granted directory")
    return (files[-1] / path).read_bytes()


_log: Callable[[Level, str], None] = _native_log
_count: Callable[[str, int], None] = _native_count
_read_file: Callable[[str], bytes] = _native_read_file
