"""The bound on a line's length, and what gives way when an event is longer.

Pure, so it runs on either side of the fork. Workers share one pipe, and only a write of at most
PIPE_BUF bytes (4096 on Linux) is never mixed with another's, so the bound holds whatever the event.

A shortened value ends in a mark in plain ASCII that says how many characters went:
`Mozilla/5.0 (X11; Linux...[+6931]`.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass

from otel_canonical.event.logfmt import FieldValue, as_text

SHORTEST_WIDTH = 40  # bytes of a value, encoded, that shortening leaves it at least
TRUNCATED = ("truncated", True)

Pair = tuple[str, FieldValue]
Encoder = Callable[[Iterable[Pair]], str]


def fit(
    pairs: Sequence[Pair], encode: Encoder, max_bytes: int, protected: Container[str]
) -> tuple[bytes, bool]:
    r"""Return the encoded line with its `\n`, of at most `max_bytes`, and whether it was shortened.

    What is too long gives way in this order until the line fits:

    1. the longest values without protection are shortened, the longest first;
    2. pairs without protection are dropped, from the end;
    3. protected values are shortened, the longest first;
    4. protected pairs are dropped, from the end, because the bound holds before all else.

    Steps 3 and 4 are for absurd events only. `truncated=true` is added at the end. `max_bytes` is
    512 or more, and the encoder one that writes each pair by itself, with one byte between two.
    """
    line = _encoded(pairs, encode)
    if len(line) < max_bytes:
        return line + b"\n", False
    return _shortened(pairs, encode, max_bytes, protected) + b"\n", True


@dataclass(slots=True)
class _Part:
    """One pair of the line; `cost` is the bytes it takes there, its separator included."""

    key: str
    value: FieldValue
    cost: int
    is_dropped: bool = False

    @property
    def width(self) -> int:
        """Bytes of the value, encoded, and of the punctuation around it."""
        return self.cost - len(self.key)


def _encoded(pairs: Iterable[Pair], encode: Encoder) -> bytes:
    return encode(pairs).encode("utf-8", "replace")


def _shortened(
    pairs: Sequence[Pair], encode: Encoder, max_bytes: int, protected: Container[str]
) -> bytes:
    frame = len(_encoded((), encode))

    def cost(key: str, value: FieldValue) -> int:
        return len(_encoded([(key, value)], encode)) - frame + 1

    def part(key: str, value: FieldValue) -> _Part:
        # Each character takes a byte or more, so max_bytes of them show that a value is too long.
        short = value[:max_bytes] if isinstance(value, str) else value
        return _Part(key, value, cost(key, short))

    parts = [part(key, value) for key, value in pairs if key != TRUNCATED[0]]
    excess = sum([part.cost for part in parts]) - (max_bytes - frame - cost(*TRUNCATED))
    free = [part for part in parts if part.key not in protected]
    kept = [part for part in parts if part.key in protected]
    for yielding in (free, kept):
        excess -= _shorten_longest(yielding, excess, cost)
        while excess > 0 and yielding:
            dropped = yielding.pop()
            dropped.is_dropped = True
            excess -= dropped.cost
    line = [(part.key, part.value) for part in parts if not part.is_dropped]
    return _encoded([*line, TRUNCATED], encode)


def _shorten_longest(
    parts: Sequence[_Part], excess: int, cost: Callable[[str, FieldValue], int]
) -> int:
    """Shorten the longest values until `excess` bytes are saved, if they go; return the saved."""
    if excess <= 0:
        return 0
    level = _common_width([part.width for part in parts], excess)
    saved = 0
    for part in parts:
        if part.width > level:
            part.value = _cut(part, level + len(part.key), cost)
            before, part.cost = part.cost, cost(part.key, part.value)
            saved += before - part.cost
    return saved


def _common_width(widths: Iterable[int], excess: int) -> int:
    """Return the width that no value may exceed for the values together to save `excess` bytes."""
    total = 0
    for count, width in enumerate([*sorted(widths, reverse=True), 0]):
        if total - count * width >= excess:  # the `count` longer ones, cut down to this width
            return max((total - excess) // count, SHORTEST_WIDTH)
        total += width
    return SHORTEST_WIDTH


def _cut(part: _Part, limit: int, cost: Callable[[str, FieldValue], int]) -> str:
    """Return the longest beginning that costs at most `limit` bytes together with its mark.

    Cutting a str, not its bytes, is what keeps characters whole. One more character is at least
    one byte more and the mark is at most one shorter, so the halving search is sound.
    """
    text = as_text(part.value)

    def cut(length: int) -> str:
        return f"{text[:length]}...[+{len(text) - length}]"

    fits, too_long = 0, min(len(text), limit)
    while too_long - fits > 1:
        middle = (fits + too_long) // 2
        if cost(part.key, cut(middle)) <= limit:
            fits = middle
        else:
            too_long = middle
    return cut(fits)
