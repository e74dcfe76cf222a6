"""The two ends of a traceback, exact at any length."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import TracebackType

import pytest

from otel_canonical.stacks import tracebacks
from otel_canonical.stacks.tracebacks import (
    INNER,
    INNER_SHOWN,
    OUTER,
    OUTER_SHOWN,
    STRIDE,
    entries_of,
    text_of,
)


def a_traceback(length: int) -> TracebackType | None:
    """Return a traceback with so many entries, whose lines are numbered from 1."""
    trace: TracebackType | None = None
    for number in range(length, 0, -1):
        trace = TracebackType(trace, sys._getframe(), -1, number)
    return trace


def numbers(entries: list[TracebackType]) -> list[int]:
    """Return the lines of entries."""
    return [entry.tb_lineno for entry in entries]


@pytest.mark.parametrize(
    "length",
    [
        *(0, 1, OUTER - 1, OUTER, OUTER + 1, OUTER + INNER, OUTER + INNER + 1),
        *(OUTER + STRIDE, OUTER + STRIDE + 1, OUTER + 2 * STRIDE + 1, OUTER + 5 * STRIDE + 7),
    ],
)
def test_ends_are_exact(length: int) -> None:
    """The first 500, the last 500 of the rest, and how many are between."""
    first, last, between = entries_of(a_traceback(length))
    assert (OUTER, INNER) == (500, 500)
    assert numbers(first) == list(range(1, min(length, OUTER) + 1))
    rest = list(range(OUTER + 1, length + 1))
    assert numbers(last) == rest[-INNER:]
    assert between == max(0, len(rest) - INNER)


@pytest.mark.parametrize(
    ("outer", "inner", "ends"),
    [(2, 3, ([1, 2], [8, 9, 10], 5)), (6, 4, (list(range(1, 7)), [7, 8, 9, 10], 0))],
)
def test_as_many_are_returned_as_are_asked_for(
    outer: int, inner: int, ends: tuple[list[int], list[int], int]
) -> None:
    """At each end."""
    first, last, between = entries_of(a_traceback(10), outer, inner)
    assert (numbers(first), numbers(last), between) == ends


@pytest.mark.parametrize(("length", "left_out"), [(80, 0), (81, 1), (2000, 1920)])
def test_text_counts_what_it_leaves_out(length: int, left_out: int) -> None:
    """Twenty frames, the number of those between, sixty frames."""
    assert (OUTER_SHOWN, INNER_SHOWN) == (20, 60)
    texts: list[str] = []

    def clean(text: str) -> str:
        texts.append(text)
        return text

    text = text_of(a_traceback(length), clean)
    assert (f"  [{left_out} frames left out]\n" in text) is bool(left_out)
    assert "".join(texts).count("  File ") == text.count("  File ")
    shown: Callable[[int], bool] = lambda line: f"line {line}," in text  # noqa: E731
    assert shown(1)
    assert shown(length)
    assert shown(21) is not bool(left_out)


def test_nothing_is_shown_of_nothing() -> None:
    """What was never raised has no traceback."""
    assert text_of(None, str) == ""
    assert entries_of(None) == ([], [], 0)


@pytest.mark.parametrize("length", [1, STRIDE, 2 * STRIDE, 5 * STRIDE + 7, 50 * STRIDE])
def test_of_a_long_recursion_few_entries_are_listed(length: int) -> None:
    """A walk to its end keeps two strides of it at most, and counts the others."""
    trace = a_traceback(length)
    assert trace is not None
    entries, before = tracebacks._last_entries(trace)
    assert len(entries) <= 2 * STRIDE
    assert before + len(entries) == length
