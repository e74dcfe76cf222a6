"""Encodes an event as one line of logfmt, and parses such lines.

Pure, so it runs on either side of the fork. Values come from clients, so three things hold for any
keys and values: `encode` never raises, it returns exactly one line, and `parse` returns the same values.

Characters that move a terminal's cursor, reorder or hide text, or end a line for some reader are
escaped as `\\uXXXX`: control characters (C0, DEL, C1), all white space except the plain space,
zero-width and bidirectional marks, and lone surrogates, which UTF-8 cannot encode. Limit: the invisible
tag characters beyond U+FFFF don't fit four digits and are not escaped.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import Decimal

from otel_canonical.internal_errors import is_apps_own
from otel_canonical.process.interruptions import is_interruption

FieldValue = str | int | float | bool

UNSHOWABLE = "!err"  # written for a value or a key whose own code raises
KNOWN_KEYS_LIMIT = 1024  # bounds the cache: an app may build its keys from anything

_HIDDEN = (  # ranges of code points, both ends included, that are always escaped
    (0x0000, 0x001F),  # C0: NUL, tab, newline, ESC…
    (0x007F, 0x00A0),  # DEL, C1 with its own newline U+0085, no-break space
    (0x00AD, 0x00AD),  # soft hyphen
    (0x061C, 0x061C),  # Arabic letter mark
    (0x1680, 0x1680),  # Ogham space
    (0x180E, 0x180E),  # Mongolian vowel separator
    (0x2000, 0x200F),  # spaces, zero-width characters, direction marks
    (0x2028, 0x202F),  # line and paragraph separators, bidirectional overrides, narrow space
    (0x205F, 0x206F),  # mathematical space, invisible operators, bidirectional isolates
    (0x3000, 0x3000),  # ideographic space
    (0xD800, 0xDFFF),  # surrogates
    (0xFEFF, 0xFEFF),  # byte order mark
    (0xFFF9, 0xFFFB),  # interlinear annotations
)
_hidden = "".join([f"\\u{first:04x}-\\u{last:04x}" for first, last in _HIDDEN])
_needs_quotes = re.compile(rf'[ ="\\{_hidden}]').search
_needs_escapes = re.compile(rf'["\\{_hidden}]').search
_key_dirt = re.compile(r"[^A-Za-z0-9_.]")
_escape = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|([nrtbf\"'\\/]))")
_pair = re.compile(
    r'([^\x00-\x20="]*)'  # the key; a match without one is skipped
    r'(?:=?"([^"\\]*(?:\\.[^"\\]*)*)\\?"?'  # a quoted value, up to the end if it is never closed
    r"|=([^\x00-\x20]*))?",  # or a bare one
    re.DOTALL,
)

_ESCAPES = {
    code: f"\\u{code:04x}" for first, last in _HIDDEN for code in range(first, last + 1)
} | {ord("\n"): "\\n", ord("\r"): "\\r", ord("\t"): "\\t", ord('"'): '\\"', ord("\\"): "\\\\"}
_UNESCAPED = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f"}

_WIDE = 1 << 63  # larger integers are rare and take the slow path

KNOWN_VALUES_LIMIT = 1024
KNOWN_VALUE_LENGTH_LIMIT = 200
#: Encodings of texts that recur (hosts, routes, browsers). Other modules may read it, not change it.
known_values: dict[object, str] = {}

_prefixes: dict[str, str] = {}  # a key as the app spells it -> `key=` as it is written


def encode(pairs: Iterable[tuple[str, FieldValue | None]]) -> str:
    """Return the pairs as one line without a newline; never raises, and leaves `None` out."""
    line: list[str] = []
    for key, value in pairs:
        if type(value) is str:
            # `isalnum` is much faster than the search, and true for ids and most words.
            bare = value.isalnum() or (value and not _needs_quotes(value))
            shown = value if bare else _quote(value)
        elif type(value) is int and -_WIDE < value < _WIDE:
            shown = str(value)
        elif type(value) is float and "e" not in (shown := repr(value)):
            pass
        elif value is False:
            shown = "false"
        elif value is True:
            shown = "true"
        elif value is None:
            continue
        else:
            shown = as_text(value)
            if not shown or _needs_quotes(shown):
                shown = _quote(shown)
        try:
            prefix = _prefixes[key]
        except Exception as error:  # a new key, or not a str; then its hash may raise anything
            if is_interruption(error):
                raise
            prefix = _prefix(key)
        line.append(prefix + shown)
    return " ".join(line)


def shown(value: FieldValue) -> str:
    """Return a value as `encode` writes it; never raises. Callers look in `known_values` first."""
    if type(value) is not str:
        text = as_text(value)
        return _quote(text) if not text or _needs_quotes(text) else text
    text = value if value.isalnum() or (value and not _needs_quotes(value)) else _quote(value)
    if len(value) <= KNOWN_VALUE_LENGTH_LIMIT:
        # Clients choose many of these texts, so the cache is emptied when it is full.
        if len(known_values) >= KNOWN_VALUES_LIMIT:
            known_values.clear()
        known_values[value] = text
    return text


def parse(line: str) -> dict[str, str]:
    """Return the values of a line by key; never raises, on any logfmt.

    A bare key has the value "". Of equal keys the last one wins. A value without a key is skipped.
    """
    found = {}
    for key, quoted, bare in _pair.findall(line):
        if key:
            found[key] = bare or _escape.sub(_unescape, quoted)
    return found


def clean_key(key: str) -> str:
    """Return the key with every character outside `[A-Za-z0-9_.]` replaced by `_`."""
    return _key_dirt.sub("_", as_text(key)) or "_"


def as_text(value: object) -> str:
    """Return any value as plain text, numbers without exponent; `!err` if its own code raises."""
    kind = type(value)  # not isinstance: lazy objects and proxies pretend to be a str
    try:
        if kind is bool:
            return "true" if value else "false"
        if issubclass(kind, float):
            number = float.__repr__(value)
            return number if "e" not in number else format(Decimal(number), "f")
        if issubclass(kind, int):
            return int.__repr__(value)  # raises beyond sys.get_int_max_str_digits()
        # str.__str__, because a subclass may override it.
        return str.__str__(value if issubclass(kind, str) else str(value))
    except BaseException as error:  # an app's __str__ may raise anything; the line must be written
        if not is_apps_own(error):
            raise
        return UNSHOWABLE


def _prefix(key: str) -> str:
    prefix = clean_key(key) + "="
    if type(key) is str:
        if len(_prefixes) >= KNOWN_KEYS_LIMIT:
            _prefixes.clear()
        _prefixes[key] = prefix
    return prefix


def _quote(value: str) -> str:
    # Search first: str.translate does a failed look-up for every plain character.
    return f'"{value.translate(_ESCAPES)}"' if _needs_escapes(value) else f'"{value}"'


def _unescape(escape: re.Match[str]) -> str:
    code, letter = escape.groups()
    return chr(int(code, 16)) if code else _UNESCAPED.get(letter, letter)
