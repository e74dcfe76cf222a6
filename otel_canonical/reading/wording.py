"""Numbers as people read them, and texts that a terminal can be given."""

from __future__ import annotations

_MINUTE_S = 60.0
_HOUR_S = 3600.0
_NAMED = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def visible(text: str) -> str:
    """Return a text whose control, invisible and reordering characters are spelled as escapes."""
    if text.isprintable():
        return text
    return "".join([char if char.isprintable() else _escape(char) for char in text])


def duration(seconds: float) -> str:
    """Return a duration with the unit that suits it: `4.7 ms`, `3.2 s`, `41 min`, `2 h 5 min`."""
    if seconds < 0:
        return "-" + duration(-seconds)
    if seconds < 0.9995:
        milliseconds = seconds * 1000
        return f"{milliseconds:.0f} ms" if milliseconds >= 99.95 else f"{milliseconds:.1f} ms"
    if seconds < 99.95:
        return f"{seconds:.1f} s"
    if seconds < 10 * _MINUTE_S:
        return f"{seconds:.0f} s"
    if seconds < 2 * _HOUR_S:
        return f"{seconds / _MINUTE_S:.0f} min"
    if seconds < 48 * _HOUR_S:
        return f"{seconds / _HOUR_S:.1f} h"
    return f"{seconds / _HOUR_S / 24:.1f} d"


def count(number: float) -> str:
    """Return a count, its thousands apart."""
    return f"{number:,.0f}"


def counted(number: float, noun: str) -> str:
    """Return a count and what is counted: `1 query`, `1,204 queries`."""
    if number == 1:
        return f"1 {noun}"
    plural = noun[:-1] + "ies" if noun.endswith("y") else noun + "s"
    return f"{count(number)} {plural}"


def share(part: float) -> str:
    """Return a share as a percentage: `0.21 %`, `3.4 %`, `71 %`; `-` for none."""
    percent = part * 100
    if percent == 0:
        return "-"
    if percent < 0.995:
        return f"{percent:.2f} %"
    return f"{percent:.1f} %" if percent < 9.95 else f"{percent:.0f} %"


def size(number: float) -> str:
    """Return a number of bytes: `12 kB`, `1.5 MB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(number) < 1000 or unit == "GB":
            break
        number /= 1000
    return f"{number:.0f} {unit}" if unit == "B" or abs(number) >= 99.5 else f"{number:.1f} {unit}"


def _escape(char: str) -> str:
    if named := _NAMED.get(char):
        return named
    code = ord(char)
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
