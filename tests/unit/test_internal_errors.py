"""`guarded` reports our own errors, rarely, and swallows them; what ends a process passes through."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator

import pytest

from otel_canonical import internal_errors
from otel_canonical.event.redaction import RedactionPolicy
from otel_canonical.internal_errors import guarded, guarded_call, report
from otel_canonical.stacks.errors import report_with

_names = itertools.count()


class LeavesGreenlet(BaseException):
    """Like gevent's GreenletExit: no error, an end."""


@pytest.fixture
def lenient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What operators have; the test suite itself is strict."""
    monkeypatch.delenv(internal_errors.STRICT_VARIABLE)


@pytest.fixture
def doing() -> str:
    """Something that no other test has reported."""
    return f"testing {next(_names)}"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """A clock that stands still until it is called with seconds to go on."""
    now = [1000.0]

    def go_on(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(internal_errors.time, "monotonic", lambda: now[0])
    return go_on


def through_guarded(doing: str, error: BaseException) -> None:
    """Raise inside `guarded`."""
    with guarded(doing):
        raise error


def through_guarded_call(doing: str, error: BaseException) -> None:
    """Raise inside a function that `guarded_call` wraps."""

    @guarded_call(doing)
    def fails() -> None:
        raise error

    assert fails() is None


WAYS = pytest.mark.parametrize("way", [through_guarded, through_guarded_call])
Way = Callable[[str, BaseException], None]


@WAYS
@pytest.mark.usefixtures("lenient")
@pytest.mark.parametrize(
    "error", [ValueError("oh"), RecursionError(), StopIteration(), OSError(5, "io")]
)
def test_error_is_reported_and_not_raised(
    way: Way, error: Exception, doing: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Any Exception stops here; the report says what was being done, and carries the traceback."""
    way(doing, error)
    [record] = caplog.records
    assert (record.name, record.levelno) == ("gunicorn.error.otel_canonical", logging.ERROR)
    first, heading, *frames, last = record.getMessage().splitlines()
    assert first == f"otel-canonical failed while {doing}; the request was not affected"
    assert heading == "Traceback (most recent call last):"
    assert any("raise error" in line for line in frames)
    # What is said of it may be secret: nothing has told this process yet how to redact it.
    assert last == type(error).__name__


@WAYS
@pytest.mark.usefixtures("lenient")
@pytest.mark.parametrize(
    "end", [SystemExit(1), KeyboardInterrupt(), GeneratorExit(), LeavesGreenlet()]
)
def test_end_of_process_goes_through(
    way: Way, end: BaseException, doing: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Gunicorn stops a worker with SystemExit: swallowing it would keep the worker alive."""
    with pytest.raises(type(end)) as raised:
        way(doing, end)
    assert raised.value is end
    assert caplog.records == []


@WAYS
def test_error_is_raised_when_strict(
    way: Way, doing: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Under test nothing of ours fails unseen."""
    error = ValueError("oh")
    with pytest.raises(ValueError, match="oh") as raised:
        way(doing, error)
    assert raised.value is error
    assert caplog.records == []


@pytest.mark.parametrize(("value", "is_strict"), [("1", True), ("0", False), ("", False)])
def test_strictness_is_chosen_by_variable(
    value: str, is_strict: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only `1` is strict: nothing that a production environment holds by accident."""
    monkeypatch.setenv(internal_errors.STRICT_VARIABLE, value)
    assert internal_errors.is_strict() is is_strict


@pytest.mark.usefixtures("lenient")
def test_nothing_is_said_when_nothing_fails(doing: str, caplog: pytest.LogCaptureFixture) -> None:
    """`guarded_call` keeps results, arguments and names."""

    @guarded_call(doing)
    def adds(a: int, *, b: int) -> int:
        """Add."""
        return a + b

    with guarded(doing):
        total = adds(1, b=2)
    assert total == 3
    assert (adds.__name__, adds.__doc__) == ("adds", "Add.")
    assert caplog.records == []


def test_same_report_comes_once_a_minute(
    doing: str, clock: Callable[[float], None], caplog: pytest.LogCaptureFixture
) -> None:
    """A failure in every request is said once, and then how often it was."""
    for _ in range(1000):
        report(doing)
    clock(internal_errors.REPORT_INTERVAL_S)
    report(doing)
    clock(internal_errors.REPORT_INTERVAL_S)
    report(doing)
    said = f"otel-canonical failed while {doing}; the request was not affected"
    assert [record.getMessage() for record in caplog.records] == [
        said,
        f"{said} (999 more since the last report)",
        said,
    ]


@pytest.mark.usefixtures("clock")
def test_different_reports_dont_hide_each_other(
    doing: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The limit is one of each kind."""
    for what in (f"{doing} a", f"{doing} b", f"{doing} a"):
        report(what)
    assert [record.getMessage().split(";")[0][-1] for record in caplog.records] == ["a", "b"]


@pytest.fixture
def _redacting() -> Iterator[None]:
    """As in arbiter, workers and reporter."""
    before = (internal_errors._policy.clean, internal_errors._policy.describe)
    report_with(RedactionPolicy())
    yield
    internal_errors.set_policy(*before)


HOSTILE = "password=hunter2 \x1b[2J\n[2024-01-01] [1] [INFO] forged\r\u2028" + "x" * 1_000_000


@pytest.mark.usefixtures("lenient", "_redacting")
def test_report_is_redacted_and_escaped(doing: str, caplog: pytest.LogCaptureFixture) -> None:
    """What a client can put into an exception's message forges no entry, and shows no secret."""
    try:
        try:
            raise KeyError(HOSTILE)
        except KeyError as error:
            raise ValueError(HOSTILE) from error
    except ValueError as error:
        report(doing, error)
    [record] = caplog.records
    text = record.getMessage()
    assert "hunter2" not in text
    assert len(text) < 20_000
    assert (
        "ValueError: password=[redacted] \\x1b[2J\\n[2024-01-01] [1] [INFO] forged\\r\\u2028xxx"
        in text
    )
    assert all(line.isprintable() for line in text.split("\n"))
    assert not [line for line in text.split("\n") if line.startswith("[")]


@pytest.mark.usefixtures("_redacting", "clock")
@pytest.mark.parametrize("say", [internal_errors.tell, internal_errors.warn])
def test_warning_is_redacted_and_escaped(
    say: Callable[[str], None], caplog: pytest.LogCaptureFixture
) -> None:
    """Like the reason why an export failed, which quotes the endpoint."""
    say("https://h/x?api_key=s3cret&q=1 failed\n[INFO] forged")
    assert caplog.messages == [
        "otel-canonical: https://h/x?api_key=[redacted]&q=1 failed\\n[INFO] forged"
    ]
