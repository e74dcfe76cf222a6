"""Which fields an operator wants, and in which order. Pure.

A value that is left out everywhere is excluded when the event is composed. The order, and what is left
out of the line alone, is applied to the line.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Sequence

from otel_canonical.event.fields import FieldValue

Pair = tuple[str, FieldValue]

#: Always on a line, first: viewers and readers of lines recognise them there.
FIRST = ("ts", "event_type")

#: An app may build its keys from anything.
KNOWN_KEYS_LIMIT = 1024


def without_excluded(pairs: Iterable[Pair], excluded: re.Pattern[str] | None) -> tuple[Pair, ...]:
    """Return the pairs that the operator has not excluded; `event_type` is always kept."""
    if excluded is None:
        return tuple(pairs)
    return tuple([pair for pair in pairs if pair[0] == "event_type" or not excluded.match(pair[0])])


class LineFields:
    """The fields that the operator wants on a line, in the order in which they were named.

    Args:
        globs: of keys, as `fnmatch` has them; a key belongs to the first one that matches.
    """

    def __init__(self, globs: Sequence[str]) -> None:
        self._matches = [re.compile(fnmatch.translate(glob)).match for glob in (*FIRST, *globs)]
        self._places: dict[str, int | None] = {}

    def chosen(self, pairs: Iterable[Pair]) -> list[Pair]:
        """Return the wanted pairs in the wanted order; those of one glob stay in their own order."""
        placed: list[tuple[int, Pair]] = []
        for pair in pairs:
            place = self._place(pair[0])
            if place is not None:
                placed.append((place, pair))
        placed.sort(key=_place_of)
        return [pair for _, pair in placed]

    def _place(self, key: str) -> int | None:
        places = self._places
        if key in places:
            return places[key]
        found = None
        for place, match in enumerate(self._matches):
            if match(key):
                found = place
                break
        if len(places) >= KNOWN_KEYS_LIMIT:
            places.clear()
        places[key] = found
        return found


def _place_of(placed: tuple[int, Pair]) -> int:
    return placed[0]
