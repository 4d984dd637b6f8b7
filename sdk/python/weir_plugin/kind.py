"""How a sink may write a cell."""

from enum import Enum


class Kind(Enum):
    """How a sink may write a cell. The cell's bytes are text in every case."""

    TEXT = "text"
    INTEGER = "integer"
    FLOAT = "float"
    BOOLEAN = "boolean"
    JSON = "json"
