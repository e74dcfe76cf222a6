"""Encodes the event as one JSON object per line, in ASCII only.

Pure, so it runs on either side of the fork. Keys are repaired as in logfmt. Non-ASCII and control
characters are escaped, so nothing that a client sends can break the line or control a terminal.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import lru_cache

from otel_canonical.event.logfmt import KNOWN_KEYS_LIMIT, FieldValue, as_text, clean_key

# allow_nan=False: JSON has no nan or inf, and a strict parser rejects the whole line.
_dump = json.JSONEncoder(ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode
_known_key = lru_cache(maxsize=KNOWN_KEYS_LIMIT)(clean_key)


def encode(pairs: Iterable[tuple[str, FieldValue | None]]) -> str:
    """Return the pairs as one JSON object without a newline; never raises, and leaves `None` out.

    Numbers stay numbers, except nan, inf and -inf, which become strings; the last of equal keys
    wins.
    """
    event: dict[str, FieldValue] = {}
    for key, value in pairs:
        if value is None:
            continue
        name = _known_key(key) if type(key) is str else clean_key(key)
        # The encoder calls no method of a subclass of these, so they cannot raise.
        event[name] = value if issubclass(type(value), (str, int, float)) else as_text(value)
    try:
        return _dump(event)
    except ValueError:  # nan, inf, or an integer with more digits than Python agrees to print
        return _dump({name: _allowed(value) for name, value in event.items()})


def _allowed(value: FieldValue) -> FieldValue:
    try:
        _dump(value)
    except ValueError:
        return as_text(value)
    return value
