"""Which requests are exported whatever the sampler said: by outcome, by status, by time."""

from __future__ import annotations

from typing import Any

import pytest

from otel_canonical.event.event import EventType
from otel_canonical.request.always_export import AlwaysExport
from otel_canonical.request.scope import RequestScope, StackSample
from otel_canonical.settings import Settings
from otel_canonical.stacks.errors import ErrorFacts

SECOND = 1_000_000_000
FAILED = ErrorFacts("ValueError", "no", None, None, None)


def rule(*kinds: str, slow_seconds: float | None = 2.0) -> AlwaysExport:
    """Return the rule that names some kinds of requests."""
    return AlwaysExport(Settings(always_export=frozenset(kinds), slow_seconds=slow_seconds))


def a_request(elapsed_ns: int = 0, **facts: Any) -> RequestScope:
    """Return a request that was answered with 200 unless it is said otherwise."""
    scope = RequestScope("GET", "/", {})
    scope.ended_ns, scope.status = scope.started_ns + elapsed_ns, 200
    for name, value in facts.items():
        setattr(scope, name, value)
    return scope


@pytest.mark.parametrize(
    ("facts", "has_failed"),
    [
        ({}, False),
        ({"status": 499}, False),
        ({"status": 500}, True),
        ({"status": None}, True),
        ({"status": None, "client_gone": True}, False),
        ({"status": 500, "client_gone": True}, False),
        ({"status": 200, "error": FAILED}, True),
        ({"status": 399, "error": FAILED}, True),
        ({"status": 400, "error": FAILED}, False),
        ({"status": 200, "error": FAILED, "client_gone": True}, False),
    ],
)
def test_failure_is_the_servers(facts: dict[str, Any], has_failed: bool) -> None:
    """A 5xx, no answer, or one that an exception has cut short; neither a 4xx nor a client that left."""
    expected = "error" if has_failed else None
    assert rule("errors").reason(a_request(**facts), EventType.REQUEST) == expected
    assert rule("timeouts", "lost", "slow").reason(a_request(**facts), EventType.REQUEST) is None


@pytest.mark.parametrize("elapsed_ns", [2 * SECOND, 2 * SECOND + 1])
def test_slow_is_what_takes_longer_than_the_operator_says(elapsed_ns: int) -> None:
    """Unless it is exempt, or nothing is said of what slow is."""
    is_slow = elapsed_ns > 2 * SECOND
    scope = a_request(elapsed_ns)
    assert rule("slow").reason(scope, EventType.REQUEST) == ("slow" if is_slow else None)
    assert rule("slow", slow_seconds=None).reason(scope, EventType.REQUEST) is None
    assert rule("errors").reason(scope, EventType.REQUEST) is None
    exempt = a_request(elapsed_ns, is_exempt_from_slow=True)
    assert rule("slow").reason(exempt, EventType.REQUEST) is None
    lost = rule("slow").reason_when_lost(EventType.LOST, elapsed_ns)
    assert lost == ("slow" if is_slow else None)
    assert rule("slow").reason(a_request(ended_ns=None), EventType.REQUEST) is None


def test_late_request_is_one_that_timed_out() -> None:
    """Also one that was answered after its deadline."""
    scope = a_request(stuck=StackSample(1, None, None, ""))
    assert rule("timeouts").reason(scope, EventType.REQUEST) == "timeout"
    assert rule("timeouts").reason(a_request(), EventType.TIMEOUT) == "timeout"
    assert rule("timeouts").reason(a_request(), EventType.REQUEST) is None
    assert rule("errors", "lost", "slow").reason(scope, EventType.REQUEST) is None


@pytest.mark.parametrize(
    ("kinds", "event_type", "reason"),
    [
        (("timeouts",), EventType.TIMEOUT, "timeout"),
        (("timeouts",), EventType.LOST, None),
        (("lost",), EventType.LOST, "lost"),
        (("lost",), EventType.TIMEOUT, None),
        (("timeouts", "lost"), EventType.LOST, "lost"),
        (("errors",), EventType.LOST, None),
    ],
)
def test_dead_request_is_exported_by_its_outcome(
    kinds: tuple[str, ...], event_type: EventType, reason: str | None
) -> None:
    """The arbiter knows how it ended, and little else."""
    assert rule(*kinds).reason_when_lost(event_type, 1) == reason


def test_most_telling_reason_is_said() -> None:
    """Of a request that is several things at once."""
    every = rule("errors", "timeouts", "lost", "slow")
    scope = a_request(9 * SECOND, status=None)
    assert every.reason(scope, EventType.LOST) == "lost"
    assert every.reason(scope, EventType.TIMEOUT) == "timeout"
    assert every.reason(scope, EventType.REQUEST) == "error"
    assert every.reason(a_request(9 * SECOND), EventType.REQUEST) == "slow"


def test_rule_says_what_it_is_asked_for() -> None:
    """Whether there is one, and which requests are looked at before their end."""
    assert [rule(*kinds).is_on for kinds in ((), ("lost",))] == [False, True]
    assert [rule(kind).exports_slow for kind in ("slow", "lost")] == [True, False]
    assert [rule(kind).exports_timeouts for kind in ("timeouts", "lost")] == [True, False]
