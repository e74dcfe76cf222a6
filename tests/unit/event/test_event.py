"""CanonicalEvent: attributes, timestamps and durations."""

from __future__ import annotations

import datetime
import re
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_canonical.event.event import (
    CanonicalEvent,
    EventType,
    has_failed,
    least_important_first,
    timestamp,
)
from otel_canonical.event.rows import seconds

#: From 1970 to 2200, in nanoseconds since the epoch.
MOMENTS = st.integers(0, 7_258_118_400 * 10**9)


def test_attributes_are_apps_first() -> None:
    """A full span evicts its oldest attribute; that shall be one of the app's."""
    pairs = (
        ("event_type", "request"),
        ("ts", "2025-01-01T00:00:00.000Z"),
        ("app_plan", "pro"),
        ("sampled", True),
        ("req_route", "ok/"),
        ("app_items", 3),
    )
    attributes = CanonicalEvent.of_pairs(EventType.REQUEST, pairs).attributes()
    assert list(attributes.items()) == [
        ("app.plan", "pro"),
        ("app.items", 3),
        ("canonical.event_type", "request"),
        ("http.route", "ok/"),
    ]


def test_stack_is_attribute_when_event_has_one() -> None:
    """What is too long for a line leaves on the span, under its semantic convention."""
    event = CanonicalEvent.of_pairs(EventType.REQUEST, (), stack="File ...")
    assert event.attributes() == {"code.stacktrace": "File ..."}
    assert CanonicalEvent.of_pairs(EventType.REQUEST, ()).attributes() == {}


def test_event_cannot_be_changed() -> None:
    """Every output receives the same event."""
    event = CanonicalEvent.of_pairs(EventType.REQUEST, ())
    with pytest.raises(AttributeError):
        event.pairs = (("a", 1),)  # type: ignore[misc]


def test_types_are_as_lines_spell_them() -> None:
    """What stands behind `event_type=` is the value's own name."""
    assert {kind.value for kind in EventType} >= {"request", "partial_failure"}
    for kind in EventType:
        assert kind.value == kind.name.lower()


@given(MOMENTS)
def test_timestamp_is_moment_in_utc(now_ns: int) -> None:
    """RFC 3339, milliseconds cut off, never rounded up into the next second."""
    text = timestamp(now_ns)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", text)
    read = datetime.datetime.fromisoformat(text[:-1] + "+00:00")
    elapsed = read - datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
    assert elapsed // datetime.timedelta(milliseconds=1) == now_ns // 1_000_000


def test_timestamp_is_now_when_no_moment_is_given() -> None:
    """Between two looks at the clock."""
    before = datetime.datetime.now(datetime.timezone.utc)
    read = datetime.datetime.fromisoformat(timestamp()[:-1] + "+00:00")
    after = datetime.datetime.now(datetime.timezone.utc)
    assert before - datetime.timedelta(milliseconds=1) <= read <= after


def test_timestamp_is_right_when_threads_ask_for_different_seconds() -> None:
    """The text that is kept of a second is never shown for another one."""

    def ask(second: int) -> set[str]:
        return {timestamp(second * 10**9) for _ in range(2000)}

    moments = range(1_700_000_000, 1_700_000_008)
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(ask, moments))
    expected = [datetime.datetime.fromtimestamp(m, datetime.timezone.utc) for m in moments]
    assert answers == [{moment.strftime("%Y-%m-%dT%H:%M:%S.000Z")} for moment in expected]


@pytest.mark.parametrize(
    ("elapsed_ns", "shown"), [(0, 0.0), (499, 0.0), (1_000, 1e-06), (1_234_567_890, 1.234568)]
)
def test_seconds_are_to_the_microsecond(elapsed_ns: int, shown: float) -> None:
    """Six digits are all that a line shows."""
    assert seconds(elapsed_ns) == shown


def test_least_important_is_first() -> None:
    """The app's, then stacks, then ours from the end of the line, at last identity and outcome."""
    names = """http.request.id canonical.db.queries canonical.cache.hits http.response.status_code
    app.plan code.stacktrace app.items""".split()
    assert list(least_important_first(dict.fromkeys(names, 1))) == [
        *("app.items", "app.plan", "code.stacktrace", "canonical.cache.hits"),
        *("canonical.db.queries", "http.response.status_code", "http.request.id"),
    ]


@pytest.mark.parametrize(
    ("event_type", "status", "failed"),
    [
        (EventType.REQUEST, 200, False),
        (EventType.REQUEST, 499, False),
        (EventType.REQUEST, 500, True),
        (EventType.REQUEST, None, True),
        (EventType.TIMEOUT, 200, True),
        (EventType.LOST, 200, True),
        (EventType.SLOW, 200, True),
        (EventType.PARTIAL_FAILURE, None, True),
    ],
)
def test_event_of_a_request_that_was_answered_well_reports_no_failure(
    event_type: EventType, status: int | None, failed: bool
) -> None:
    """Every other does."""
    assert has_failed(CanonicalEvent.of_pairs(event_type, []), status) is failed


def test_stack_of_an_event_is_its_one_text() -> None:
    """Several stacks are attributes; they are made only if the event is exported."""
    made: list[int] = []

    def stacks() -> dict[str, str]:
        made.append(1)
        return {"code.stacktrace": "a"}

    assert CanonicalEvent.of_pairs(EventType.SLOW, (), "a stack").stack == "a stack"
    assert CanonicalEvent.of_pairs(EventType.SLOW, ()).stack == ""
    several = CanonicalEvent.of_pairs(EventType.SLOW, (), stacks)
    assert (several.stack, made) == ("", [])
    assert (several.attributes(), made) == ({"code.stacktrace": "a"}, [1])
