"""Whether the long versions of the tests run (`make soak`), or the short ones."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TypeVar

IS_SOAK = os.environ.get("OTEL_CANONICAL_SOAK") == "1"

T = TypeVar("T")


def some_of(every: Iterable[T], *short: T) -> Sequence[T]:
    """Return the cases that a test has: all in the long version, those of `short` in the short one.

    A test that has them is marked `soak`. Each worker class, driver and signal occurs in the short versions,
    but not with everything that may happen to it.
    """
    cases = list(every)
    assert set(short) <= set(cases), short
    return cases if IS_SOAK else short
