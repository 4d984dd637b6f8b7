"""A plugin that has its settings."""

from __future__ import annotations

from .event import Batch
from .out import Fields, Out
from .plugin import BatchPlugin, reader_of
from .wire import Input, Output

_MOST_NAMED_FIELDS = 512
"""Fields that data may name before they are forgotten: a batch carries the names of all fields."""


class Runner:
    """A plugin that has its settings."""

    def __init__(self, plugin: type[BatchPlugin[object]], settings: str) -> None:
        """Reads the settings, which are JSON. A `ValueError` is what their author is shown."""
        self._class = plugin
        self._settings = settings
        self._make()

    def _make(self) -> None:
        settings = reader_of(self._class).read(self._settings)
        self.fields = Fields()
        self._plugin = self._class(settings, self.fields)
        self.fields._fix()

    def process(self, input: Input, last: bool) -> Output:
        """One batch in, one out."""
        if self.fields._is_over(_MOST_NAMED_FIELDS):
            self._make()
        batch = Batch(input)
        out = Out(self.fields, batch)
        self._plugin.batch(batch, last, out)
        return out._finish()
