"""The two ends of a traceback, however long it is. Pure.

A recursion may leave a hundred thousand entries. Only so many of them are looked at; the walk to the end
touches no frame.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from types import TracebackType

#: How many entries at the outer and at the inner end are looked at.
OUTER, INNER = 500, 500

#: No fewer than `INNER`. A long traceback is walked in strides, so that its end is found by one walk.
STRIDE = 512
_STRIDE = (None,) * STRIDE

#: How many of them a text shows.
OUTER_SHOWN, INNER_SHOWN = 20, 60


def entries_of(
    trace: TracebackType | None, outer: int = OUTER, inner: int = INNER
) -> tuple[list[TracebackType], list[TracebackType], int]:
    """Return the outermost entries, the innermost of the rest, and how many are between them."""
    first: list[TracebackType] = []
    while trace is not None and len(first) < outer:
        first.append(trace)
        trace = trace.tb_next
    if trace is None:
        return first, [], 0
    rest, skipped = _last_entries(trace)
    return first, rest[-inner:], skipped + max(0, len(rest) - inner)


def _last_entries(trace: TracebackType) -> tuple[list[TracebackType], int]:
    """Return at least `STRIDE` entries at the end, if there are so many, and how many are before them."""
    marks = [trace]
    following: TracebackType | None = trace
    while following is not None:
        for _ in _STRIDE:  # nothing else in this loop: it runs for every entry
            following = following.tb_next
            if following is None:
                break
        else:
            marks.append(following)
    start = max(0, len(marks) - 2)
    entries: list[TracebackType] = []
    following = marks[start]
    while following is not None:
        entries.append(following)
        following = following.tb_next
    return entries, start * STRIDE


def text_of(trace: TracebackType | None, clean: Callable[[str], str]) -> str:
    """Return a traceback as Python prints it, without a heading; what is between its ends is counted."""
    first, last, between = entries_of(trace, OUTER_SHOWN, INNER_SHOWN)
    shown = _lines(first, clean)
    if between:
        shown += f"  [{between} frames left out]\n"
    return shown + _lines(last, clean)


def _lines(entries: list[TracebackType], clean: Callable[[str], str]) -> str:
    if not entries:
        return ""
    summary = traceback.extract_tb(entries[0], limit=len(entries))
    return "".join([clean(line) for line in summary.format()])
