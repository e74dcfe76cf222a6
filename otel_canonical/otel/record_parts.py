"""Numbers what stands around records in a message, so that one byte in front of an encoded record says it.

Lives in the worker. The numbers are the same for all encoders: every exporter gets what is encoded once.
"""

from __future__ import annotations

import threading

#: Of the message around records, the resource's part and the scope's.
Parts = tuple[bytes, bytes]

#: As many as a byte can name. A process has one resource, and encodes ahead for three scopes.
MOST_NUMBERS = 256

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
