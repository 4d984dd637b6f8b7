"""Undoing what nginx's `escape=default` and `escape=json` do."""

import re

_ESCAPE = re.compile(rb"\\(?:([\"\\/nrtbf])|x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4}))")
_LETTERS = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"f": b"\f"}


def unescape(value: bytes) -> bytes:
    """The value with its escapes undone; what is no escape stays."""
    return _ESCAPE.sub(_undo, value)


def _undo(escape: "re.Match[bytes]") -> bytes:
    letter, byte, code = escape.groups()
    if letter:
        return _LETTERS.get(letter, letter)
    if byte:
        return bytes([int(byte, 16)])
    point = int(code, 16)
    return escape[0] if 0xD800 <= point < 0xE000 else chr(point).encode()
