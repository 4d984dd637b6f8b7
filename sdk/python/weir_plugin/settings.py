"""What a plugin's user may set: a dataclass, read from JSON and described as JSON Schema.

Supported: `bool`, `int`, `float`, `str`, `Kind`, enums of texts, `Literal` of texts, `list`, `dict[str, …]`, `… | None`,
dataclasses, and `object` or `Any` for anything. A field's description is the text below it, or `metadata={"doc": …}`.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import textwrap
import types
from dataclasses import dataclass
from enum import Enum
from typing import Any, Callable, Literal, Union, get_args, get_origin, get_type_hints

Read = Callable[[Any, str], Any]
"""From what JSON has to the setting. The second is where it stands, for errors."""


@dataclass
class NoSettings:
    """The settings of a plugin that has none."""


class Reader:
    """Reads settings of one type. Types that are not supported are a `TypeError` here, when the plugin is built."""

    def __init__(self, settings: object) -> None:
        if not (isinstance(settings, type) and dataclasses.is_dataclass(settings)):
            raise TypeError(f"settings must be a dataclass, not {settings!r}")
        self._type = settings
        self._read = _reader(settings, settings.__name__)

    def read(self, text: str) -> object:
        """The settings of a JSON text. A `ValueError` says what is wrong with which."""
        try:
            value = json.loads(text)
        except ValueError as error:
            raise ValueError(f"the settings are not JSON: {error}") from None
        return self._read(value, "")

    def schema(self) -> dict[str, object]:
        """The JSON Schema of the settings."""
        return _schema(self._type)


def _reader(kind: Any, name: str) -> Read:
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any or kind is object:
        return lambda value, place: value
    if kind in _PLAIN:
        return _PLAIN[kind][0]
    if origin in (Union, types.UnionType) and type(None) in arguments and len(arguments) == 2:
        inner = _reader(_without_none(arguments), name)
        return lambda value, place: None if value is None else inner(value, place)
    if origin is list or kind is list:
        return _list(_reader(arguments[0] if arguments else Any, name))
    if (origin is dict and arguments[0] is str) or kind is dict:
        return _dict(_reader(arguments[1] if arguments else Any, name))
    if origin is Literal and all(isinstance(word, str) for word in arguments):
        return _choice({word: word for word in arguments})
    if isinstance(kind, type) and issubclass(kind, Enum) and all(isinstance(one.value, str) for one in kind):
        return _choice({one.value: one for one in kind})
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return _object(kind)
    raise TypeError(f"{name}: settings cannot be of type {kind!r}")


def _without_none(arguments: tuple[Any, ...]) -> Any:
    return next(argument for argument in arguments if argument is not type(None))


def _at(place: str, problem: str) -> ValueError:
    return ValueError(f"{place}: {problem}" if place else problem)


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else text[:40] + "…"


def _bool(value: object, place: str) -> bool:
    if not isinstance(value, bool):
        raise _at(place, f"expected true or false, got {_shown(value)}")
    return value


def _int(value: object, place: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise _at(place, f"expected a whole number, got {_shown(value)}")
    return value


def _float(value: object, place: str) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise _at(place, f"expected a number, got {_shown(value)}")
    return float(value)


def _str(value: object, place: str) -> str:
    if not isinstance(value, str):
        raise _at(place, f"expected text, got {_shown(value)}")
    return value


_PLAIN: dict[object, tuple[Read, str]] = {
    bool: (_bool, "boolean"),
    int: (_int, "integer"),
    float: (_float, "number"),
    str: (_str, "string"),
}


def _list(inner: Read) -> Read:
    def read(value: Any, place: str) -> list[Any]:
        if not isinstance(value, list):
            raise _at(place, f"expected a list, got {_shown(value)}")
        return [inner(item, f"{place}[{i}]") for i, item in enumerate(value)]

    return read


def _dict(inner: Read) -> Read:
    def read(value: Any, place: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise _at(place, f"expected an object, got {_shown(value)}")
        return {key: inner(item, f"{place}.{key}".lstrip(".")) for key, item in value.items()}

    return read


def _choice(words: dict[str, Any]) -> Read:
    def read(value: Any, place: str) -> Any:
        if not isinstance(value, str) or value not in words:
            raise _at(place, f"expected {_one_of(list(words))}, got {_shown(value)}")
        return words[value]

    return read


def _one_of(names: list[str]) -> str:
    quoted = ", ".join(f"`{name}`" for name in names)
    return quoted if len(names) == 1 else f"one of {quoted}"


def _object(kind: type) -> Read:
    hints = get_type_hints(kind)
    fields = [field for field in dataclasses.fields(kind) if field.init]
    readers = {field.name: _reader(hints[field.name], f"{kind.__name__}.{field.name}") for field in fields}
    required = [field.name for field in fields if _is_required(field)]

    def read(value: Any, place: str) -> object:
        if not isinstance(value, dict):
            raise _at(place, f"expected an object, got {_shown(value)}")
        for key in value:
            if key not in readers:
                expected = f"expected {_one_of(list(readers))}" if readers else "there are no settings"
                raise _at(place, f"unknown field `{key}`, {expected}")
        for name in required:
            if name not in value and _allows_none(hints[name]):
                value = {**value, name: None}
            elif name not in value:
                raise _at(place, f"missing field `{name}`")
        return kind(**{key: readers[key](item, f"{place}.{key}".lstrip(".")) for key, item in value.items()})

    return read


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _allows_none(kind: Any) -> bool:
    return type(None) in get_args(kind)


def _schema(kind: Any) -> dict[str, object]:
    origin, arguments = get_origin(kind), get_args(kind)
    if kind in _PLAIN:
        return {"type": _PLAIN[kind][1]}
    if origin in (Union, types.UnionType):
        return {"anyOf": [_schema(_without_none(arguments)), {"type": "null"}]}
    if origin is list or kind is list:
        return {"type": "array", "items": _schema(arguments[0] if arguments else Any)}
    if origin is dict or kind is dict:
        return {"type": "object", "additionalProperties": _schema(arguments[1] if arguments else Any)}
    if origin is Literal:
        return {"oneOf": [{"const": word} for word in arguments]}
    if isinstance(kind, type) and issubclass(kind, Enum):
        docs = _docs(kind)
        return {"oneOf": [{"const": one.value, **_described(docs.get(one.name))} for one in kind]}
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return _object_schema(kind)
    return {"$comment": "anything"}


def _object_schema(kind: type) -> dict[str, object]:
    hints, docs = get_type_hints(kind), _docs(kind)
    fields = [field for field in dataclasses.fields(kind) if field.init]
    properties = {
        field.name: {**_described(field.metadata.get("doc") or docs.get(field.name)), **_schema(hints[field.name])}
        for field in fields
    }
    required = [field.name for field in fields if _is_required(field) and not _allows_none(hints[field.name])]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _described(doc: str | None) -> dict[str, object]:
    return {"description": " ".join(doc.split())} if doc else {}


def _docs(kind: type) -> dict[str, str]:
    """The texts below the fields of a class. Its source is there when a plugin is built, and nowhere else."""
    try:
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    except (OSError, TypeError, SyntaxError, ValueError):
        return {}
    body = definition.body if isinstance(definition, ast.ClassDef) else []
    docs = {}
    for field, below in zip(body, body[1:]):
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) and isinstance(below.value.value, str):
            name = field.target if isinstance(field, ast.AnnAssign) else getattr(field, "targets", [None])[0]
            if isinstance(name, ast.Name):
                docs[name.id] = below.value.value
    return docs
