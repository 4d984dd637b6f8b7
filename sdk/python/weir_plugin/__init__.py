"""Write parsers and filters for weir: a function for one event, and one line to export it.

    from weir_plugin import DROP, KEEP, Event, Failure, Fate, Row, export

    def level(event: Event, row: Row) -> Fate:
        level, colon, message = event.text().partition(": ")
        if not colon:
            raise Failure("no level")
        row.put("level", level)
        row.put("message", message)
        return DROP if level == "debug" else KEEP

    export(level)

Rooms: `plugin` what an author implements, `event` what comes in, `out` what goes out, `regex` the fast way by a
regular expression, `settings` what a plugin's user may set, `times` from text to nanoseconds, `host` what the sandbox
offers, `console` where `print` goes, `testing` for pytest and unittest, `guest` and `describe` the glue of `weir plugin build`.
"""

from . import console as _console  # First: modules that are imported later may keep what `print` writes to.
from .event import Batch, Cell, Event
from .host import count, log, read_file
from .kind import Kind
from .out import FieldId, Fields, Out, Row
from .plugin import DROP, KEEP, BatchPlugin, Failure, Fate, Plugin, export
from .regex import RegexPlugin
from .settings import NoSettings

API_VERSION = "0.1"
"""The version of the contract that this SDK builds for."""

__all__ = [
    "API_VERSION",
    "DROP",
    "KEEP",
    "Batch",
    "BatchPlugin",
    "Cell",
    "Event",
    "Failure",
    "Fate",
    "FieldId",
    "Fields",
    "Kind",
    "NoSettings",
    "Out",
    "Plugin",
    "RegexPlugin",
    "Row",
    "count",
    "export",
    "log",
    "read_file",
]
