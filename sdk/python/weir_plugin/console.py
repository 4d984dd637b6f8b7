"""Where `print` goes in the sandbox, which has no standard output: to the plugin's log."""

from __future__ import annotations

import io
import sys
from typing import TextIO

from . import host


class Console(io.TextIOBase):
    """Whole lines go to the log. While the plugin is built there is none, so that they go where they went before."""

    def __init__(self, before: TextIO) -> None:
        self._before: TextIO | None = before
        self._begun = ""

    def begin(self) -> None:
        """The plugin runs: from now on there is a log."""
        self._before = None

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if self._before is not None:
            return self._before.write(text)
        *lines, self._begun = (self._begun + text).split("\n")
        for line in lines:
            if line:
                host.log("info", line)
        return len(text)

    def end_line(self) -> None:
        """Logs the line that was begun: a call does not leave anything to the next one."""
        if self._begun:
            self.write("\n")


def replace() -> Console:
    """Has `sys.stdout` and `sys.stderr` be one."""
    if not isinstance(sys.stdout, Console):
        sys.stdout = sys.stderr = Console(sys.stderr)
    return sys.stdout


# What takes them when it is imported, as `logging` does, is to get these.
if sys.platform == "wasi":
    replace()
