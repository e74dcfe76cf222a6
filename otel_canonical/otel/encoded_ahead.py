"""Records that are encoded ahead of their batch: which exporters take them, and what stands around one.

Lives in the worker. The first byte of such a record is a number that stands for the parts of the message
around it. Numbers are the same for all encoders: every exporter gets what is encoded once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from types import FunctionType, MethodType
from typing import Any

#: Of the message around records, the resource's part and the scope's.
Parts = tuple[bytes, bytes]

#: Returns a record, or the bytes that stand for it.
EncodeAhead = Callable[[Any], Any]

#: As many as a byte can name. A process has one resource, and encodes ahead for three scopes.
MOST_NUMBERS = 256

#: Ours, and those of OTLP's exporters.
_KNOWN = ("otel_canonical.", "opentelemetry.exporter.otlp.")

_parts: list[Parts] = []
_numbers: dict[Parts, bytes] = {}
_numbering = threading.Lock()


def number_of(parts: Parts) -> bytes:
    """Return the byte that stands for the parts of a message; empty if there are too many of them."""
    known = _numbers.get(parts)
    if known is not None:
        return known
    with _numbering:
        if parts not in _numbers and len(_parts) < MOST_NUMBERS:
            _numbers[parts] = bytes([len(_parts)])
            _parts.append(parts)
        return _numbers.get(parts, b"")


def parts_of(number: int) -> Parts:
    """Return the parts that a number stands for."""
    return _parts[number]


def takes_bytes(exporter: object, modules: Collection[str]) -> bool:
    """Return whether nobody but our encoder looks at what an exporter is given.

    Args:
        exporter: any.
        modules: of OTLP's exporters. A class derived from one of them is of another module.
    """
    if type(exporter).__module__ not in modules:
        return False
    function = getattr(exporter, "export", None)
    while function is not None:
        # What others have put around it may want to see spans.
        code = function.__func__ if type(function) is MethodType else function
        if type(code) is not FunctionType or not code.__globals__["__name__"].startswith(_KNOWN):
            return False
        function = getattr(function, "__wrapped__", None)
    return True
