"""The component's two functions; imported only inside of one. `weir plugin build` makes its main module, which imports
the author's and `Processor` of this one."""

from __future__ import annotations

import codecs
import gc
import importlib.machinery
import linecache
import sys
from contextlib import suppress

import _strptime  # noqa: F401  `datetime.strptime` imports it when it is first called, which is too late.
from componentize_py_types import Err
from wit_world.imports import count, event, log

from . import console, host
from .kind import Kind
from .plugin import _said, exported
from .runner import Runner
from .wire import Input

try:
    from wit_world.imports import files
except ImportError:  # The world without them.
    files = None

_KINDS = {kind: event.Kind[kind.name] for kind in Kind}
_LEVELS = {"debug": log.Level.DEBUG, "info": log.Level.INFO, "warn": log.Level.WARN, "error": log.Level.ERROR}


def _read_file(path: str) -> bytes:
    if files is None:
        raise OSError(f"{path}: the plugin's pyproject.toml does not say `files = true` under [tool.weir]")
    try:
        content: bytes = files.read(path)
        return content
    except Err as error:
        raise OSError(str(error.value)) from None


host._log = lambda level, message: log.write(_LEVELS[level], message)
host._count = lambda name, amount: count.add(name, amount)
host._read_file = _read_file

_console = console.replace()

# Codecs are imported when they are first used, which is too late as well. These are those that logs have.
for name in ("ascii", "cp1252", "gb18030", "gbk", "latin_1", "utf_8", "utf_8_sig", "utf_16", "utf_16_be", "utf_16_le"):
    with suppress(LookupError):
        codecs.lookup(name)

# There are no sources for `traceback` to show lines of.
linecache.updatecache = lambda filename, module_globals=None: []


class _Late:
    """Finds no module: in the sandbox there are those that were imported when the plugin was built."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        raise ModuleNotFoundError(
            f"`{name}` was not imported when the plugin was built: import it at the top of the plugin's module", name=name
        )


def _begin() -> None:
    """What can be done only when the plugin runs, and not while it is built."""
    _console.begin()
    # It would look for files, which ends the instance.
    finders = [finder for finder in sys.meta_path if finder is not importlib.machinery.PathFinder]
    sys.meta_path[:] = [*(finder for finder in finders if finder is not _Late), _Late]


_runner: Runner | None = None

_CALLS_BETWEEN_COLLECTIONS = 64
"""The collector of reference cycles looks at each object that there is: between the batches it costs much less."""
_calls = 0


class Processor:
    """What the component exports."""

    def configure(self, settings: str) -> None:
        global _runner
        gc.disable()
        gc.freeze()
        _begin()
        try:
            _runner = Runner(exported(), settings)
        except (ValueError, OSError, LookupError) as error:
            raise Err(str(error)) from None
        except Exception as error:
            raise Err(f"{_said(error)}: {error}") from None
        finally:
            _console.end_line()

    def process(self, input: Input, last: bool) -> event.Output:
        global _calls
        assert _runner is not None, "configure comes before process"
        try:
            out = _runner.process(input, last)
        except Exception as error:
            _said(error)
            raise
        finally:
            _console.end_line()
        _calls += 1
        if _calls % _CALLS_BETWEEN_COLLECTIONS == 0:
            gc.collect()
        fields = [event.Field(name, _KINDS[kind]) for name, kind in _runner.fields.list]
        return event.Output(
            out.made, fields, out.rows, out.cells, out.times, out.origins, out.reasons, out.failed, out.held
        )
