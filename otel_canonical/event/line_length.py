"""Shortens an event that would make too long a line.

Pure, so it runs on either side of the fork. Workers share one pipe, and only writes of at most PIPE_BUF
bytes (4096 on Linux) are never mixed with each other. So the limit holds for any event.

A shortened value ends in an ASCII mark that says how many characters are missing:
`Mozilla/5.0 (X11; Linux...[+6931]`.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass

from otel_canonical.event.logfmt import FieldValue, as_text

#: No value is shortened to fewer encoded bytes than this.
SHORTEST_WIDTH = 40
TRUNCATED = ("truncated", True)

Pair = tuple[str, FieldValue]
Encoder = Callable[[Iterable[Pair]], str]


def fit(
    pairs: Sequence[Pair], encode: Encoder, max_bytes: int, protected: Container[str]
) -> tuple[bytes, bool]:
    r"""Return the encoded line with its `\n`, of at most `max_bytes`, and whether it was shortened.

    A line that is too long is shortened in these steps until it fits:

    1. values that aren't protected are shortened, the longest first;
    2. pairs that aren't protected are dropped, from the end;
    3. protected values are shortened, the longest first;
    4. protected pairs are dropped, from the end.

    Steps 3 and 4 only happen to absurd events. `truncated=true` is added at the end. `max_bytes` must
    be 512 or more, and the encoder must write each pair independently, with one byte between two.
    """
    line = _encoded(pairs, encode)
    if len(line) < max_bytes:
        return line + b"\n", False
    return _shortened(pairs, encode, max_bytes, protected) + b"\n", True


@dataclass(slots=True)
class _Part:
    """One pair of the line. `cost` is its size in bytes, including its separator."""

    key: str
    value: FieldValue
    cost: int
    is_dropped: bool = False

    @property
    def width(self) -> int:
        """The size of the encoded value and the punctuation around it."""
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
        # A character takes at least one byte, so the first max_bytes characters prove it too long.
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
    """Shorten the longest values to save `excess` bytes; return how many bytes were saved."""
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
    """Return the width to which the longer values must shrink to save `excess` bytes together."""
    total = 0
    for count, width in enumerate([*sorted(widths, reverse=True), 0]):
        if total - count * width >= excess:  # if the `count` longest shrink to this width
            return max((total - excess) // count, SHORTEST_WIDTH)
        total += width
    return SHORTEST_WIDTH


def _cut(part: _Part, limit: int, cost: Callable[[str, FieldValue], int]) -> str:
    """Return the longest prefix that takes at most `limit` bytes together with its mark.

    Cutting the text, not its bytes, keeps characters whole. A longer prefix never takes fewer bytes:
    one more character adds at least one byte, and shortens the mark by at most one. So a binary search
    finds the longest.
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
