"""`python -m weir_plugin.describe MODULE`: what the plugin of a module says of itself, as JSON."""

from __future__ import annotations

import importlib
import json
import sys

from . import API_VERSION
from .plugin import NoPlugin, exported, reader_of


def main(module: str) -> None:
    """Imports the module, and prints the version of the contract and the schema of the settings."""
    importlib.import_module(module)
    print(json.dumps({"api": API_VERSION, "settings": reader_of(exported()).schema()}))


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except (LookupError, NoPlugin) as error:
        sys.exit(str(error))
