"""Bounds of what is shown, so that no work of ours grows with a value beyond them. Pure.

A text is cut before anything else looks at it, and the cut is visible: `...[+9995904]`. Stacks, values and
the whole event have a bound each. The event's is for span and log event; the line has its own
(`line_length`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from otel_canonical.event.field_description import AttributeValue
from otel_canonical.event.logfmt import as_text
from otel_canonical.settings import Settings

#: The longest text of a stack, in characters.
LONGEST_STACK = 16_384

#: Added to an event's size for each attribute: what an encoder needs beside name and value.
ATTRIBUTE_OVERHEAD = 16
#: No text of an event is shortened to less, in bytes.
_SHORTEST = 64


@dataclass(slots=True)
class Limits:
    """The limits of this process.

    Attributes:
        value: the longest text of a value, in characters.
        event: the largest event, in bytes.
    """

    value: int = 4096
    event: int = 65_536


limits = Limits()


def configure(settings: Settings) -> None:
    """Set the limits of this process; a value may always be as long as a line."""
    limits.value = max(Limits().value, settings.max_line)
    limits.event = settings.max_event


def cut(text: str, most: int | None = None) -> str:
    """Return a text of at most `most` characters (default `limits.value`) and the mark of a cut."""
    most = limits.value if most is None else most
    return text if len(text) <= most else f"{text[:most]}...[+{len(text) - most}]"


def shown(value: object) -> str:
    """Return a value's text, cut; of a large container only so many items are looked at.

    An object of the app's is asked for its whole text: that is the app's code.
    """
    kind, most = type(value), limits.value
    if kind in _CONTAINERS and not _fits(value, [most], 0):
        pieces: list[str] = []
        _show(value, pieces, [most])
        return "".join(pieces)[:most] + "...[+]"
    return cut(as_text(value))


_CONTAINERS = frozenset((list, tuple, set, frozenset, dict, bytes, bytearray))
_BRACKETS: dict[type, Sequence[str]] = {
    list: "[]",
    tuple: "()",
    set: "{}",
    dict: "{}",
    frozenset: ("frozenset({", "})"),
}
_DEEPEST = 20


def _fits(value: object, left: list[int], depth: int) -> bool:
    """Take at least the length of a value's text from what is left; return whether that is enough."""
    kind = type(value)
    if kind in (str, bytes, bytearray):
        left[0] -= len(value)  # type: ignore[arg-type]
    elif kind in _BRACKETS:
        left[0] -= 2 * len(value)  # type: ignore[arg-type]
        if depth >= _DEEPEST:
            # What is further inside may be of any size.
            return False
        if left[0] >= 0:
            items = value.items() if isinstance(value, dict) else value
            return all(_fits(item, left, depth + 1) for item in items)  # type: ignore[attr-defined]
    else:
        left[0] -= 1
    return left[0] >= 0


def _show(value: object, pieces: list[str], left: list[int], depth: int = 0) -> None:
    """Append the text of a value until nothing is left of the characters that may be shown."""
    kind = type(value)
    if kind in (str, bytes, bytearray):
        piece = repr(value[: left[0]])  # type: ignore[index]
    elif kind in _BRACKETS and depth < _DEEPEST:
        opening, closing = _BRACKETS[kind]
        _append(pieces, opening, left)
        items = value.items() if isinstance(value, dict) else value
        for number, item in enumerate(islice(items, left[0])):  # type: ignore[call-overload]
            if number:
                _append(pieces, ", ", left)
            if not left[0]:
                break
            if isinstance(value, dict):
                _show(item[0], pieces, left, depth + 1)
                _append(pieces, ": ", left)
                item = item[1]
            _show(item, pieces, left, depth + 1)
        piece = closing
    else:
        piece = "..." if kind in _BRACKETS else as_repr(value)
    _append(pieces, piece, left)


def _append(pieces: list[str], piece: str, left: list[int]) -> None:
    pieces.append(piece)
    left[0] = max(0, left[0] - len(piece))


def as_repr(value: object) -> str:
    """Return the `repr` of a value, `!err` if its own code raises."""
    try:
        return repr(value)
    except Exception:  # noqa: BLE001  # an app's `__repr__` may raise anything
        return "!err"


def fit(
    attributes: dict[str, AttributeValue], importance: Mapping[str, int], truncated: str
) -> dict[str, AttributeValue]:
    """Return the attributes of an event, shortened if they are more than `limits.event` bytes together.

    Args:
        attributes: in any order.
        importance: of each attribute; the least important is shortened first, then left out.
        truncated: the attribute that says so.
    """
    characters = 0
    for name, value in attributes.items():
        characters += len(name) + ATTRIBUTE_OVERHEAD
        if type(value) is str:
            characters += len(value)
        elif type(value) is tuple:
            characters += sum(len(str(item)) for item in value)
    # A character has at most four bytes; most events are far from the limit.
    if characters * 4 <= limits.event:
        return attributes
    excess = sum(_size(name, value) for name, value in attributes.items()) - limits.event
    if excess <= 0:
        return attributes
    fitted = {**attributes, truncated: True}
    excess += _size(truncated, True)
    names = sorted(attributes, key=lambda name: (importance[name], -_size(name, attributes[name])))
    for name in names:
        value = fitted[name]
        if excess > 0 and isinstance(value, str):
            before = _size(name, value)
            fitted[name] = _shortened(value, max(_SHORTEST, len(value.encode()) - excess))
            excess -= before - _size(name, fitted[name])
    for name in names:
        if excess > 0:
            excess -= _size(name, fitted.pop(name))
    return fitted


def _size(name: str, value: AttributeValue) -> int:
    size = len(name) + ATTRIBUTE_OVERHEAD
    for item in value if isinstance(value, tuple) else (value,):
        if isinstance(item, str):
            size += len(item.encode("utf-8", "replace"))
    return size


def _shortened(text: str, size: int) -> str:
    """Return the beginning of a text and the mark of the cut, of at most `size` bytes."""
    encoded = text.encode("utf-8", "replace")
    if len(encoded) <= size:
        return text
    mark = f"...[+{len(text)}]"
    kept = encoded[: max(0, size - len(mark))].decode("utf-8", "ignore")
    return f"{kept}...[+{len(text) - len(kept)}]"
