"""What an author implements."""

from __future__ import annotations

from enum import Enum
from types import CodeType
from typing import Callable, Generic, TypeVar, Union, get_args, get_origin

from . import host
from .event import Batch, Event
from .out import Fields, Out, Row
from .settings import NoSettings, Reader

S = TypeVar("S")


class Fate(Enum):
    """What becomes of an event that did not fail."""

    KEEP = "keep"
    """It goes on, with the cells that were put."""
    DROP = "drop"
    """It is left out on purpose, and counted."""


KEEP = Fate.KEEP
DROP = Fate.DROP


class Failure(Exception):
    """Why an event could not be processed. The host ships it unchanged, marked with this reason.

    Keep the reasons few: say what kind of trouble it is, not which bytes.
    """


class BatchPlugin(Generic[S]):
    """A plugin that looks at a batch at a time: to join events, to split them, or to hold some back.

    `S` is a dataclass: what its user may set; `NoSettings` for nothing.
    """

    def __init__(self, settings: S, fields: Fields) -> None:
        """Checks the settings and names the fields that the plugin will make. A `ValueError` is shown to the one who
        wrote the settings."""

    def batch(self, batch: Batch, last: bool, out: Out) -> None:
        """Turns the input into output, in order. Each input event must be kept by `Out.keep`, failed by `Out.fail` or
        held by `Out.hold`; the others count as dropped. `last` says that nothing will follow, so that holding is of no
        use."""
        raise NotImplementedError


class Plugin(BatchPlugin[S]):
    """A plugin that looks at one event at a time."""

    def event(self, event: Event, row: Row) -> Fate:
        """Puts the event's cells into `row`. What was put is forgotten if the event is dropped or fails."""
        raise NotImplementedError

    def batch(self, batch: Batch, last: bool, out: Out) -> None:
        _one_at_a_time(self.event, batch, out)


def _one_at_a_time(process: Callable[[Event, Row], Fate], batch: Batch, out: Out) -> None:
    event = Event(batch)
    for i in range(len(batch)):
        event._move(i)
        try:
            fate = process(event, out.row(event))
            if fate is KEEP:
                out.keep(i, i + 1)
            elif fate is DROP:
                out.forget()
            else:
                out.fail(i, f"neither KEEP nor DROP was returned, but {type(fate).__name__}")
        except Failure as failure:
            out.fail(i, str(failure))
        except UnicodeDecodeError:
            out.fail(i, "not UTF-8")
        except MemoryError:
            raise  # The host makes a new instance.
        except Exception as error:
            out.fail(i, _said(error))


_seen: set[tuple[CodeType, int]] = set()


def _said(error: BaseException) -> str:
    """The reason of an event on which its plugin has a bug. Where it came from is logged, once for each place."""
    trace = error.__traceback__
    lines = []
    place = "?"
    while trace is not None:
        code = trace.tb_frame.f_code
        if not code.co_filename.replace("\\", "/").endswith(_OURS):
            place = f"{_short(code.co_filename)}:{trace.tb_lineno}"
            lines.append(f"{place} in {code.co_name}")
            last = (code, trace.tb_lineno or 0)
        trace = trace.tb_next
    if lines and last not in _seen:
        _seen.add(last)
        host.log("error", f"{type(error).__name__}: {error}\n  at " + "\n  at ".join(reversed(lines)))
    return f"{type(error).__name__} at {place}"


_OURS = ("weir_plugin/plugin.py", "weir_plugin/guest.py")


def _short(path: str) -> str:
    """The last two names of a path, without the number that a search path's directory has in the sandbox."""
    names = [name for name in path.replace("\\", "/").split("/") if name]
    return "/".join((names[1:] if names[0].isdigit() else names)[-2:])


class _Function(Plugin[NoSettings]):
    """The plugin of a function."""

    function: Callable[[Event, Row], Fate]

    def batch(self, batch: Batch, last: bool, out: Out) -> None:
        _one_at_a_time(type(self).function, batch, out)


Exported = Union["type[BatchPlugin[S]]", Callable[[Event, Row], Fate]]

_exported: list[type[BatchPlugin[object]]] = []


def export(plugin: Exported[S]) -> None:
    """Makes a plugin of a class, or of a function of an event and a row. Its name, version and description are those
    of the project in `pyproject.toml`."""
    _exported.append(as_plugin(plugin))


def as_plugin(plugin: Exported[S]) -> type[BatchPlugin[object]]:
    """The class of what can be exported. Its settings are looked at, so that a mistake is found in the build."""
    if not isinstance(plugin, type):
        plugin = type(plugin.__name__, (_Function,), {"function": staticmethod(plugin)})
    reader_of(plugin)
    return plugin


def exported() -> type[BatchPlugin[object]]:
    """What the author has exported; exactly one."""
    if len(_exported) != 1:
        raise LookupError(
            "nothing is exported: end the module with `weir_plugin.export(YourPlugin)`"
            if not _exported
            else f"{len(_exported)} plugins are exported: `weir_plugin.export` must be called once"
        )
    return _exported[0]


_readers: dict[type, Reader] = {}


def reader_of(plugin: type) -> Reader:
    """What reads a plugin's settings."""
    reader = _readers.get(plugin)
    if reader is None:
        reader = _readers[plugin] = Reader(_settings_of(plugin))
    return reader


def _settings_of(plugin: type) -> object:
    """The `S` of a subclass of `BatchPlugin[S]`."""
    for base in getattr(plugin, "__orig_bases__", ()):
        origin = get_origin(base)
        if isinstance(origin, type) and issubclass(origin, BatchPlugin):
            (settings,) = get_args(base)
            return NoSettings if isinstance(settings, TypeVar) else settings
    for base in plugin.__bases__:
        if issubclass(base, BatchPlugin) and base is not BatchPlugin:
            return _settings_of(base)
    return NoSettings
