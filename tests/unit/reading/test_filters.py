"""The filters of `tail`: which lines pass."""

from __future__ import annotations

import argparse

import pytest

from otel_canonical.reading import filters
from otel_canonical.reading.recognise import Fields

LINES: dict[str, Fields] = {
    "ok": {"event_type": "request", "resp_status": "200", "resp_time": "0.1", "req_route": "ok/"},
    "broken": {"event_type": "request", "resp_status": 503, "resp_time": 2.5, "db_n1": "SELECT 1"},
    "missing": {"event_type": "request", "resp_status": "404", "app_plan": "pro", "req_route": ""},
    "dead": {"event_type": "lost", "resp_time": "4", "req_route": "p/<int:n>/[x]"},
    "pool": {"event_type": "pool"},
}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], ["ok", "broken", "missing", "dead", "pool"]),
        (["--status", "5xx"], ["broken"]),
        (["--status", "404,500-503"], ["broken", "missing"]),
        (["--slower", "1"], ["broken", "dead"]),
        (["--route", "ok/"], ["ok"]),
        (["--route", "p/<int:n>/[x]"], ["dead"]),
        (["--route", "p/*[x]"], ["dead"]),
        (["--event", "lost,pool"], ["dead", "pool"]),
        (["--has", "db_n1"], ["broken"]),
        (["--has", "app_plan=pro"], ["missing"]),
        (["--has", "app_plan=free"], []),
        (["--has", "resp_status=503"], ["broken"]),
        (["--status", "5xx", "--slower", "3"], []),
    ],
)
def test_filters(arguments: list[str], expected: list[str]) -> None:
    """A line passes when it passes all that are given."""
    parser = argparse.ArgumentParser()
    filters.add_arguments(parser)
    passes = filters.chosen(parser.parse_args(arguments))
    assert [name for name, fields in LINES.items() if passes(fields)] == expected


@pytest.mark.parametrize("text", ["", "5x", "abc", "20", "500-", "5xx,"])
def test_a_status_that_is_none_is_refused(text: str) -> None:
    """A typing error is no filter that lets nothing pass."""
    with pytest.raises(argparse.ArgumentTypeError, match="no status"):
        filters.status_filter(text)
