"""The logfmt encoder and parser: one event, one line that nothing inside it can break.

Pure, so it runs on either side of the fork. What a client sends ends up in here, so three things
hold for any keys and values: `encode` never raises, it returns exactly one line, and `parse`
returns what was put in.

Escaped as `\\uXXXX` is every character that moves a terminal cursor, reorders or hides text, or
ends a line for some reader: the control characters (C0, DEL, C1), all white space except the plain
space, zero-width and bidirectional marks, and lone surrogates, which UTF-8 cannot hold. Limit: the
invisible tag characters beyond U+FFFF don't fit four digits and are written as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import Decimal

FieldValue = str | int | float | bool

UNSHOWABLE = "!err"  # what is written for a value or a key whose own code raises
KNOWN_KEYS_LIMIT = 1024  # an app may build its keys from anything; the cache must not grow with it

_HIDDEN = (  # first and last code point of each run that is always escaped
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
    r'([^\x00-\x20="]*)'  # the key; what has none is junk
    r'(?:=?"([^"\\]*(?:\\.[^"\\]*)*)\\?"?'  # a quoted value, up to the end if it is never closed
    r"|=([^\x00-\x20]*))?",  # or a bare one
    re.DOTALL,
)

_ESCAPES = {
    code: f"\\u{code:04x}" for first, last in _HIDDEN for code in range(first, last + 1)
} | {ord("\n"): "\\n", ord("\r"): "\\r", ord("\t"): "\\t", ord('"'): '\\"', ord("\\"): "\\\\"}
_UNESCAPED = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f"}

_WIDE = 1 << 63  # integers beyond it are rare enough for the slow way

KNOWN_VALUES_LIMIT = 1024
KNOWN_VALUE_LENGTH_LIMIT = 200
#: Texts that come again (a host, a route, a browser), as they are written; read it, don't change it.
known_values: dict[object, str] = {}

_prefixes: dict[str, str] = {}  # a key as the app spells it -> `key=` as it is written


def encode(pairs: Iterable[tuple[str, FieldValue | None]]) -> str:
    """Return the pairs as one line without a newline; never raises, and leaves `None` out."""
    line: list[str] = []
    for key, value in pairs:
        if type(value) is str:
            # Ids and most words pass the first question, which is asked much faster than the second.
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
        except Exception:  # noqa: BLE001 - it is new, or not a str, and then its hash may raise too
            prefix = _prefix(key)
        line.append(prefix + shown)
    return " ".join(line)


def shown(value: FieldValue) -> str:
    """Return a value as `encode` writes it; never raises. Look into `known_values` first."""
    if type(value) is not str:
        text = as_text(value)
        return _quote(text) if not text or _needs_quotes(text) else text
    text = value if value.isalnum() or (value and not _needs_quotes(value)) else _quote(value)
    if len(value) <= KNOWN_VALUE_LENGTH_LIMIT:
        # Clients choose many of these texts, so that what is known is forgotten now and then.
        if len(known_values) >= KNOWN_VALUES_LIMIT:
            known_values.clear()
        known_values[value] = text
    return text


def parse(line: str) -> dict[str, str]:
    """Return the values of a line by key; never raises, also on logfmt that others wrote.

    A bare key has the value "", the last of equal keys wins, and what has no key is skipped.
    """
    found = {}
    for key, quoted, bare in _pair.findall(line):
        if key:
            found[key] = bare or _escape.sub(_unescape, quoted)
    return found


def clean_key(key: str) -> str:
    """Return the key as it may be written: every character outside `[A-Za-z0-9_.]` becomes `_`."""
    return _key_dirt.sub("_", as_text(key)) or "_"


def as_text(value: object) -> str:
    """Show any value as plain text, numbers in full; what cannot be shown is `!err`."""
    kind = type(value)  # asked instead of isinstance: lazy objects and proxies pretend to be a str
    try:
        if kind is bool:
            return "true" if value else "false"
        if issubclass(kind, float):
            number = float.__repr__(value)
            return number if "e" not in number else format(Decimal(number), "f")
        if issubclass(kind, int):
            return int.__repr__(value)  # raises beyond sys.get_int_max_str_digits()
        # str.__str__, because a subclass of str may overrule what it says.
        return str.__str__(value if issubclass(kind, str) else str(value))
    except Exception:  # noqa: BLE001 - an app's __str__ raises what it likes; the line must go out
        return UNSHOWABLE


def _prefix(key: str) -> str:
    prefix = clean_key(key) + "="
    if type(key) is str:
        if len(_prefixes) >= KNOWN_KEYS_LIMIT:
            _prefixes.clear()
        _prefixes[key] = prefix
    return prefix


def _quote(value: str) -> str:
    # The search comes first because str.translate pays a failed lookup for every plain character.
    return f'"{value.translate(_ESCAPES)}"' if _needs_escapes(value) else f'"{value}"'


def _unescape(escape: re.Match[str]) -> str:
    code, letter = escape.groups()
    return chr(int(code, 16)) if code else _UNESCAPED.get(letter, letter)
