"""What an author implements."""

from __future__ import annotations

import inspect
import json
import os
from enum import Enum
from types import CodeType, FunctionType
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
    is_raw, row = batch.is_raw, out._row
    for i in range(len(batch)):
        event._move(i)
        if is_raw:
            row._first, row._end = event.start, event.end
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
        except UnicodeDecodeError as error:
            out.fail(i, "not UTF-8" if error.encoding == "utf-8" else _said(error))
        except MemoryError:
            raise  # The host makes a new instance.
        except Exception as error:
            out.fail(i, _said(error))
    row._first, row._end = 0, row._base


_seen: set[tuple[CodeType, int]] = set()


def _said(error: BaseException) -> str:
    """The reason of an event on which its plugin has a bug. Where it came from is logged, once for each place."""
    frames: list[tuple[CodeType, int]] = []
    trace = error.__traceback__
    while trace is not None:
        frames.append((trace.tb_frame.f_code, trace.tb_lineno or 0))
        trace = trace.tb_next
    if not frames:
        return type(error).__name__
    frames = [frame for frame in reversed(frames) if not _path(frame).endswith(_GLUE)] or frames[::-1]
    # The author looks for a line of their own, not for the one of a library that refused what it was given.
    own = next((frame for frame in frames if not _path(frame).startswith(_NOT_OWN)), frames[0])
    if own not in _seen:
        _seen.add(own)
        places = [f"{_place(frame)} in {frame[0].co_name}" for frame in frames]
        host.log("error", f"{type(error).__name__}: {error}\n  at " + "\n  at ".join(places))
    return f"{type(error).__name__} at {_place(own)}"


def _path(frame: tuple[CodeType, int]) -> str:
    return frame[0].co_filename.replace("\\", "/")


def _place(frame: tuple[CodeType, int]) -> str:
    return f"{_short(_path(frame))}:{frame[1]}"


def _directory(path: str) -> str:
    return os.path.dirname(path).replace("\\", "/") + "/"


_GLUE = ("weir_plugin/plugin.py", "weir_plugin/guest.py")

# The SDK, code that has no file, and the standard library: in the sandbox it is not all in one place.
_NOT_OWN = (
    _directory(__file__),
    "<",
    _directory(os.__file__),
    _directory(os.path.dirname(json.__file__)),
)


def _short(path: str) -> str:
    """The last two names of a path, without the number that a search path's directory has in the sandbox."""
    names = [name for name in path.split("/") if name]
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


class NoPlugin(TypeError):
    """Why something cannot be exported."""


def as_plugin(plugin: Exported[S]) -> type[BatchPlugin[object]]:
    """The class of what can be exported. A `NoPlugin` says why it can be none, so that it is found in the build."""
    if isinstance(plugin, type):
        _check_class(plugin)
    elif isinstance(plugin, BatchPlugin) or not callable(plugin):
        raise NoPlugin(f"export takes a class or a function: this is neither, but a {type(plugin).__name__}")
    else:
        name = getattr(plugin, "__name__", type(plugin).__name__)
        _check_arguments(plugin, name, "event", "row")
        plugin = type(name, (_Function,), {"function": staticmethod(plugin)})
    reader_of(plugin)
    return plugin


def _check_class(plugin: type) -> None:
    """Refuses a class that would fail with each event."""
    name = plugin.__name__
    own = f"class {name}(Plugin[NoSettings])"
    if not issubclass(plugin, BatchPlugin):
        raise NoPlugin(f"the class {name} is no plugin: make it one by `{own}`")
    has_event = getattr(plugin, "event", Plugin.event) is not Plugin.event
    if plugin.batch is BatchPlugin.batch and has_event:
        raise NoPlugin(f"the class {name} has `event`, and no `batch` as a BatchPlugin must: make it `{own}`")
    if plugin.batch in (BatchPlugin.batch, Plugin.batch) and not has_event:
        raise NoPlugin(f"the class {name} has neither `event` nor `batch`")
    _check_method(plugin, "__init__", "settings", "fields")
    _check_method(plugin, "batch", "batch", "last", "out")
    if has_event:
        _check_method(plugin, "event", "event", "row")


def _check_method(plugin: type, name: str, *arguments: str) -> None:
    method = inspect.getattr_static(plugin, name)
    if isinstance(method, FunctionType):
        _check_arguments(method, f"{plugin.__name__}.{name}", "self", *arguments)
    elif isinstance(method, (staticmethod, classmethod)):
        _check_arguments(getattr(plugin, name), f"{plugin.__name__}.{name}", *arguments)


def _check_arguments(function: Callable[..., object], name: str, *arguments: str) -> None:
    """Refuses a function that cannot be called with so many arguments."""
    try:
        signature = inspect.signature(function)
    except Exception:
        return  # Not each has one that can be found out: annotations may be names that only a type checker knows.
    try:
        signature.bind(*arguments)
    except TypeError:
        takes = f"({', '.join(signature.parameters)})"
        raise NoPlugin(f"`{name}` must take ({', '.join(arguments)}), and it takes {takes}") from None


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
