"""Watchdog: one request that cannot be looked at costs no other request its line."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import FrameType

import pytest

from otel_canonical.event.redaction import RedactionPolicy
from otel_canonical.request.scope import RequestScope
from otel_canonical.stacks.text import without_locals
from otel_canonical.worker import watchdog
from otel_canonical.worker.watchdog import TRY_AGAIN_S, Deadlines, Watchdog

SECOND_NS = 1_000_000_000


@pytest.fixture(autouse=True)
def lenient(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in production: what fails is reported, not raised."""
    monkeypatch.setenv("OTEL_CANONICAL_STRICT", "0")


def ignore(scope: RequestScope) -> None:
    """Take note of a request."""


class Listener:
    """Passes on what the watchdog tells it."""

    def __init__(
        self, due: Callable[[RequestScope], None], slow: Callable[[RequestScope], None]
    ) -> None:
        self.due = due
        self.slow = slow

    def save_spans(self) -> None:
        """Have no spans."""


def a_watchdog(
    *scopes: RequestScope,
    timeout_s: float = 0,
    on_due: Callable[[RequestScope], None] = ignore,
    on_slow: Callable[[RequestScope], None] = ignore,
) -> Watchdog:
    """Return one that watches these requests; they are slow after a second."""
    return Watchdog(
        {id(scope): scope for scope in scopes},
        Deadlines(timeout_s, margin_s=0, slow_s=1, slow_interval_s=None),
        time.monotonic,
        Listener(on_due, on_slow),
        without_locals(RedactionPolicy()),
    )


def a_scope(path: str = "/ok/") -> RequestScope:
    """Return a request that this thread serves."""
    return RequestScope("GET", path, {})


def unseeable() -> RequestScope:
    """Return a request whose greenlet can't be asked for its frame."""

    class Unseeable:
        @property
        def gr_frame(self) -> FrameType:
            raise RuntimeError("not today")

    scope = a_scope("/unseeable/")
    scope.runner = Unseeable()
    return scope


def test_request_is_told_of_when_another_one_fails() -> None:
    """Whatever is wrong with the first: it can't be seen, or its line can't be made."""
    first, second, third = unseeable(), a_scope("/fails/"), a_scope()
    told: list[str] = []

    def tell(scope: RequestScope) -> None:
        if scope is second:
            raise ValueError("not this one")
        told.append(scope.path)

    a_watchdog(first, second, third, on_slow=tell).check(time.monotonic_ns() + 2 * SECOND_NS)
    assert told == ["/ok/"]


def test_deadline_is_noted_when_another_request_fails() -> None:
    """Both have what was seen; only what is told of the first is lost."""
    first, second = a_scope("/fails/"), a_scope()
    told: list[str] = []

    def tell(scope: RequestScope) -> None:
        if scope is first:
            raise ValueError("not this one")
        told.append(scope.path)

    a_watchdog(first, second, timeout_s=5, on_due=tell).check(time.monotonic_ns() + 9 * SECOND_NS)
    assert told == ["/ok/"]
    assert first.stuck is not None


def test_slow_request_is_told_of_again_when_that_failed() -> None:
    """It is due still, soon but not at once, and once it is told of it is not due any more."""
    scope = a_scope()
    tries: list[str] = []

    def tell(scope: RequestScope) -> None:
        tries.append(scope.path)
        if len(tries) == 1:
            raise ValueError("not yet")

    watch = a_watchdog(scope, on_slow=tell)
    now_ns = time.monotonic_ns() + 2 * SECOND_NS
    assert watch.check(now_ns) - now_ns == TRY_AGAIN_S * SECOND_NS
    assert scope.slow is None
    for _ in range(3):
        watch.check(now_ns)
    assert len(tries) == 2
    assert scope.slow is not None


def test_all_requests_are_marked_when_one_cannot_be_seen() -> None:
    """An abort is every open request's, and the spans are saved."""
    first, second = unseeable(), a_scope()
    watch = a_watchdog(first, second)
    watch.abort()
    assert (first.is_aborted, second.is_aborted) == (True, True)
    assert second.stuck is not None
    assert watch._is_aborting


def test_place_is_seen_when_its_text_fails() -> None:
    """A line that says where is worth having without the stack."""

    def describe(frames: object) -> str:
        raise ValueError("no words")

    sample = watchdog.sample_stack(a_scope(), describe)
    assert sample is not None
    assert (sample.loc is not None, sample.stack) == (True, "")
