"""Whole logs, with what weir makes of them: `python3 -m unittest` or `pytest`."""

import sys
import unittest
from pathlib import Path

PROJECT = Path(__file__).parent.parent
sys.path[:0] = [str(PROJECT), str(PROJECT / "vendor")]

from MODULE import Parser  # noqa: E402
from weir_plugin.testing import golden  # noqa: E402


class Golden(unittest.TestCase):
    def test_golden_files(self) -> None:
        golden(Parser, "NAME", PROJECT / "tests" / "golden")
