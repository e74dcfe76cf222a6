"""Encodes attributes and values as OTLP's protobuf; see `otlp_wire`."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any, NamedTuple

from otel_canonical.otel.protobuf import FIXED64, SMALL, VARINT, framed, sized, tag, varint

#: Bounds the attribute names whose encoding is kept; an app that makes up names empties the cache.
MOST_NAMES = 2048
#: Bounds the sizes of texts, in bytes, for which it is kept, for each name.
LONGEST_TEXT = 256

_double = struct.Struct("<d").pack


class Unusual(Exception):
    """Raised for what is not encoded here; upstream's encoder must do it."""


# The fields of a `KeyValue`, and the kinds of an `AnyValue`.
_KEY, _VALUE = 1, 2
_ANY_TEXT = 1
_ANY_BOOL = tag(2, VARINT)
_ANY_INT = tag(3, VARINT)
_ANY_FLOAT = tag(4, FIXED64)
_ANY_ARRAY = 5


class _Name(NamedTuple):
    """The encoding of an attribute without its value; each begins with the size of the whole."""

    key: bytes
    true: bytes
    false: bytes
    #: Everything before the eight bytes of a float.
    before_float: bytes
    #: Everything before the bytes of an integer, by how many these are.
    before_int: tuple[bytes, ...]
    #: Everything before the bytes of a text, by how many these are.
    before_text: dict[int, bytes]


_names: dict[str, _Name] = {}


def key_values(attributes: Mapping[str, Any]) -> list[bytes]:
    """Return attributes as `KeyValue` messages, each with its size and without the field's tag."""
    names = _names
    written: list[bytes] = []
    for name, value in attributes.items():
        known = names.get(name) or _learn(name)
        kind = type(value)
        if kind is str:
            text = value.encode()
            before = known.before_text.get(len(text)) or _before_text(known, len(text))
            written.append(before + text)
        elif kind is float:
            written.append(known.before_float + _double(value))
        elif kind is int:
            number = SMALL[value] if 0 <= value < len(SMALL) else varint(value)
            written.append(known.before_int[len(number)] + number)
        elif kind is bool:
            written.append(known.true if value else known.false)
        else:
            written.append(sized(known.key + framed(_VALUE, any_value(value))))
    return written


def _before_text(known: _Name, size: int) -> bytes:
    written = sized(known.key + framed(_VALUE, framed(_ANY_TEXT, bytes(size))))
    before = written[: len(written) - size]
    if size <= LONGEST_TEXT:
        known.before_text[size] = before
    return before


def _learn(name: str) -> _Name:
    if len(_names) >= MOST_NAMES:
        _names.clear()
    key = framed(_KEY, name.encode())
    ints = [sized(key + framed(_VALUE, _ANY_INT + bytes(size))) for size in range(11)]
    known = _names[name] = _Name(
        key=key,
        true=sized(key + framed(_VALUE, any_value(True))),
        false=sized(key + framed(_VALUE, any_value(False))),
        before_float=sized(key + framed(_VALUE, any_value(0.0)))[:-8],
        before_int=tuple(written[: len(written) - size] for size, written in enumerate(ints)),
        before_text={},
    )
    return known


def any_value(value: object) -> bytes:
    """Return the content of an `AnyValue`.

    Raises:
        Unusual: the value is no text, number or boolean, nor a sequence of these.
        UnicodeEncodeError: it is a text with a lone surrogate.
        OverflowError: it is a number of more than 64 bits.
    """
    kind = type(value)
    if kind is str:
        return framed(_ANY_TEXT, str(value).encode())
    if kind is bool:
        return _ANY_BOOL + (b"\x01" if value else b"\x00")
    if kind is int:
        return _ANY_INT + varint(int(value))  # type: ignore[call-overload]
    if kind is float:
        return _ANY_FLOAT + _double(value)
    if kind is tuple or kind is list:
        values: Any = value
        return framed(_ANY_ARRAY, b"".join([framed(1, any_value(one)) for one in values]))
    raise Unusual(kind.__name__)
