"""The component's two functions; imported only inside of one. `weir plugin build` makes its main module, which imports
the author's and `Processor` of this one."""

from __future__ import annotations

import gc

from componentize_py_types import Err
from wit_world.imports import count, event, log

from . import host
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
        try:
            _runner = Runner(exported(), settings)
        except (ValueError, OSError, LookupError) as error:
            raise Err(str(error)) from None
        except Exception as error:
            raise Err(f"{_said(error)}: {error}") from None

    def process(self, input: Input, last: bool) -> event.Output:
        global _calls
        assert _runner is not None, "configure comes before process"
        try:
            out = _runner.process(input, last)
        except Exception as error:
            _said(error)
            raise
        _calls += 1
        if _calls % _CALLS_BETWEEN_COLLECTIONS == 0:
            gc.collect()
        fields = [event.Field(name, _KINDS[kind]) for name, kind in _runner.fields.list]
        return event.Output(
            out.made, fields, out.rows, out.cells, out.times, out.origins, out.reasons, out.failed, out.held
        )
