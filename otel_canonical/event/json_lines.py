"""Encodes the event as one JSON object per line, in ASCII only.

Pure, so it runs on either side of the fork. Keys are repaired as in logfmt. Non-ASCII and control
characters are escaped, so nothing that a client sends can break the line or control a terminal.
Numbers have no exponent, as in logfmt: VictoriaLogs leaves `1.2e-05` out of a sum without a word.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from json.encoder import encode_basestring_ascii as _quoted

from otel_canonical.event.logfmt import (
    KNOWN_KEYS_LIMIT,
    UNSHOWABLE,
    FieldValue,
    as_text,
    clean_key,
)

_NO_JSON = ("nan", "inf", "-inf")
_known_key = lru_cache(maxsize=KNOWN_KEYS_LIMIT)(clean_key)


def encode(pairs: Iterable[tuple[str, FieldValue | None]]) -> str:
    """Return the pairs as one JSON object without a newline; never raises, and leaves `None` out.

    Numbers stay numbers, except nan, inf and -inf, and integers with more digits than Python agrees to
    print, which become strings; the last of equal keys wins.
    """
    event: dict[str, str] = {}
    for key, value in pairs:
        if value is None:
            continue
        name = _known_key(key) if type(key) is str else clean_key(key)
        event[name] = _quoted(value) if type(value) is str else _other(value)
    return "{" + ",".join([f"{_quoted(name)}:{text}" for name, text in event.items()]) + "}"


def _other(value: object) -> str:
    """Return the JSON of what is no text, or the text of what JSON has no number for."""
    kind, text = type(value), as_text(value)  # not isinstance: proxies pretend to be a number
    if issubclass(kind, float) and text not in _NO_JSON:
        return text if "." in text else f"{text}.0"
    if issubclass(kind, int) and text is not UNSHOWABLE:
        return text
    return _quoted(text)
