"""Closing a request costs the same however large its values are: characters looked at are counted."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from otel_canonical.event import logfmt, redaction
from otel_canonical.event.event import CanonicalEvent
from otel_canonical.event.redaction import RedactionPolicy
from otel_canonical.otel.root_factory import RootFactory
from otel_canonical.request.app_facts import set as set_fact
from otel_canonical.request.canonical_log import CanonicalLog
from otel_canonical.request.progress import Outputs
from otel_canonical.request.scope import RequestScope
from otel_canonical.settings import Settings

SMALL, LARGE = 10_000, 10_000_000


def fails_with_message(scope: RequestScope, size: int) -> None:
    """A view that quotes what was posted."""
    try:
        try:
            raise KeyError("a=b: c, " * (size // 8))
        except KeyError:
            raise ValueError("password=hunter2 a=b: c, " + "a=b: c, " * (size // 8)) from None
    except ValueError as error:
        scope.note_error(error)


def sets_values(scope: RequestScope, size: int) -> None:
    """200 keys, together a hundred times as large."""
    for n in range(200):
        set_fact(f"key{n}", "a=b: c, " * (size // 800))


def has_headers(scope: RequestScope, size: int) -> None:
    """As with `--limit-request-field_size 0`."""
    scope.headers = {"REFERER": "http://a/" + "x" * size, "USER-AGENT": "y " * (size // 2)}


def sets_containers(scope: RequestScope, size: int) -> None:
    """Lists and dictionaries of large values."""
    set_fact("list", ["x" * (size // 10)] * 10)
    set_fact("dict", {"bytes": b"x" * size})


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The lengths of all texts that were searched for secrets, or encoded."""
    lengths: list[int] = []

    def counting(function: Callable[..., object], place: int) -> Callable[..., object]:
        def count_and_call(*args: object, **kwargs: object) -> object:
            lengths.append(len(str(args[place])))
            return function(*args, **kwargs)

        return count_and_call

    monkeypatch.setattr(RedactionPolicy, "_clean", counting(RedactionPolicy._clean, 1))
    monkeypatch.setattr(
        redaction.secret_places, "without_users", counting(redaction.secret_places.without_users, 0)
    )
    monkeypatch.setattr(logfmt, "_quote", counting(logfmt._quote, 0))
    return lengths


def close_with(prepare: Callable[[RequestScope, int], None], size: int) -> CanonicalEvent:
    """Serve a request; return its event, written as a line and as attributes."""
    events: list[CanonicalEvent] = []
    outputs = Outputs(lambda event: b"", lambda event, line, slot: events.append(event))
    log = CanonicalLog(Settings(), RootFactory(None, str), outputs)
    scope = log.open("GET", "/", {})
    assert scope is not None
    prepare(scope, size)
    log.close(scope)
    [event] = events
    event.as_logfmt()
    event.attributes()
    return event


@pytest.mark.parametrize("prepare", [fails_with_message, sets_values, has_headers, sets_containers])
def test_large_values_cost_what_small_ones_do(
    prepare: Callable[[RequestScope, int], None], looked_at: list[int]
) -> None:
    """10 MB are cut before anything is done with them, and what is shown is cut visibly."""
    close_with(prepare, SMALL)
    small = sum(looked_at)
    looked_at.clear()
    event = close_with(prepare, LARGE)
    assert sum(looked_at) <= 8 * max(small, 10_000)
    assert max(looked_at) < 8192
    texts = [str(value) for _, value in event.pairs]
    assert any("...[+" in text for text in texts)
    assert "hunter2" not in str(event.pairs) + str(event.attributes())


def test_deep_recursion_costs_few_calls() -> None:
    """Of 100,000 frames the two ends are looked at; the rest is walked past without a call."""

    def fall(depth: int) -> None:
        if not depth:
            raise RecursionError("deep")
        fall(depth - 1)

    def recurse(scope: RequestScope, depth: int) -> None:
        limit = sys.getrecursionlimit()
        sys.setrecursionlimit(depth + 1000)
        try:
            fall(depth)
        except RecursionError as error:
            caught.append(error)
        finally:
            sys.setrecursionlimit(limit)

    def calls_for(depth: int) -> int:
        calls = [0]

        def note(frame: object, event: str, argument: object) -> None:
            calls[0] += event in ("call", "c_call")

        caught.clear()
        scope_of: list[RequestScope] = []

        def prepare(scope: RequestScope, size: int) -> None:
            scope_of.append(scope)
            recurse(scope, size)
            sys.setprofile(note)
            scope.note_error(caught[0])

        try:
            event = close_with(prepare, depth)
        finally:
            sys.setprofile(None)
        assert "frames left out" in str(event.attributes()["exception.stacktrace"])
        return calls[0]

    caught: list[BaseException] = []
    assert calls_for(100_000) < 1.2 * calls_for(5_000)


def test_divided_secret_does_not_escape() -> None:
    """Wherever a cut falls, nothing of a secret is shown."""
    policy = RedactionPolicy()
    secrets = (
        "postgres://user:hunter2hunter2@host/db",
        "password=hunter2hunter2",
        "('token', 'hunter2hunter2')",
        "refused: Bearer 1hunter2hunter2",
        "Key (api_key)=(hunter2hunter2) already exists.",
        "https://hunter2hunter2@host/",
        "eyJhbGciOiJ9.hunter2hunter2.hunter2",
    )
    for secret in secrets:
        for before in range(40):
            text = f"{'x ' * 20}{secret}{' y' * 5000}"
            assert "hunter2" not in policy.text(text[before:], 60, 60), (secret, before)


def test_divided_password_of_a_url_does_not_escape_when_it_is_endless() -> None:
    """Its end is behind all that is looked at."""
    shown = RedactionPolicy().text("postgres://user:" + "hunter2" * 100_000 + "@host/db")
    assert shown.startswith("postgres://user:[redacted]")
    assert "hunter2" not in shown
