"""The line's facts are attributes of the root span, and no secret is."""

from __future__ import annotations

from pathlib import Path

import pytest

from otel_canonical.event import logfmt
from otel_canonical.event.fields import FIELDS, attribute_of
from tests.support.traced_site import Traced, _numbers, traced_site

#: Types of fields as they come over the wire.
TYPES = {"str": str, "int": int, "float": float, "bool": bool}


@pytest.mark.parametrize("path", ["/queries/", "/facts/?t=1", "/raises/", "/cached/"])
def test_every_field_is_on_span_when_exported(either: Traced, path: str) -> None:
    """Each key of the line is an attribute of the same value, and of the field's type."""
    line, root = either.ask(path, User_Agent="probe/1.0", Referer="http://from.example/a")
    types = {description.key: TYPES.get(description.type) for description in FIELDS}
    for key, text in line.items():
        attribute = attribute_of(key)
        if attribute:
            value = root.attributes[attribute]
            spellings = [logfmt.parse(logfmt.encode([(key, value)]))[key]]
            if type(value) is float:
                # On an ordinary request's line a duration has all its six digits.
                spellings.append(f"{value:.6f}")
            assert text in spellings
            assert types.get(key) in (None, type(value)), (key, value)


def test_host_is_clean_when_both_generations_of_names_are_used(traced_otherwise: Traced) -> None:
    """`server.address` has no port; both generations agree on method, status and route."""
    _, root = traced_otherwise.ask("/ok/", Host="localhost:8000")
    attributes = root.attributes
    assert attributes["server.address"] == "localhost"
    assert attributes["http.request.method"] == attributes["http.method"] == "GET"
    assert attributes["http.response.status_code"] == attributes["http.status_code"] == 200
    assert attributes["http.route"] == "ok/"


@pytest.mark.parametrize("path", ["/ok/", "/raises/", "/no-such-page/", "/wsgi-answers/"])
def test_query_string_is_nowhere_when_nothing_is_set(either: Traced, path: str) -> None:
    """What stands behind the `?` leaves the process in no attribute, event or metric."""
    needle = f"needle{next(_numbers)}"
    line, root = either.ask(f"{path}?q={needle}")
    assert "req_query" not in line
    assert needle not in repr(root)
    assert needle not in either.sink.text()


def test_query_string_is_redacted_when_asked_for(tmp_path: Path) -> None:
    """The operator's choice shows it, its secrets redacted, on line and span alike."""
    with traced_site(
        tmp_path,
        OTEL_PYTHON_CANONICAL_QUERY_STRING="true",
        OTEL_PYTHON_CANONICAL_EXCLUDED_FIELDS="req_user_agent,db_*",
        OTEL_SEMCONV_STABILITY_OPT_IN="http/dup",
    ) as served:
        line, root = served.ask("/queries/?q=fine&token=hunter2", User_Agent="probe/1.0")
    assert root.attributes["url.query"] == line["req_query"]
    assert "q=fine" in line["req_query"]
    assert "hunter2" not in served.sink.text()
    assert "probe/1.0" not in served.sink.text()
    assert not [name for name in root.attributes if name.startswith("canonical.db.")]


def test_reset_token_is_nowhere_when_link_is_followed(either: Traced) -> None:
    """A password-reset link carries its token in the path; the route keeps the shape."""
    token = f"c0ffee-{next(_numbers):032d}"
    line, root = either.ask(f"/reset/MQ/{token}/")
    assert line["req_path"] == root.attributes["url.path"] == "/reset/MQ/[redacted]/"
    assert root.attributes["http.route"] == "reset/<uidb64>/<token>/"
    assert root.name == "GET reset/<uidb64>/<token>/"
    assert token not in either.sink.text()


def test_secret_is_nowhere_when_exception_names_it(either: Traced) -> None:
    """An exception's message is redacted wherever it leaves: attribute, event, status."""
    _, root = either.ask("/raises-secret/")
    assert root.status == "ERROR"
    assert "hunter2" not in repr(root)


def test_route_survives_when_app_sets_more_keys_than_span_holds(
    either: Traced, traced: Traced
) -> None:
    """300 facts evict none of ours; with OpenTelemetry's own limit they evict each other."""
    line, root = either.ask("/many-facts/")
    assert line["truncated"] == "true"
    assert root.attributes["http.route"] == "many-facts/"
    for key in set(line) - {"truncated"}:
        if not key.startswith("app_") and attribute_of(key):
            assert attribute_of(key) in root.attributes
    own = [name for name in root.attributes if name.startswith("app.key_")]
    if either is traced:
        assert (len(own), root.dropped_attributes) == (300, 0)
    else:
        assert len(root.attributes) == 128


def test_small_limit_takes_the_least_important_and_says_nothing(tmp_path: Path) -> None:
    """`OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT=20`: what identifies a request and how it ended stays."""
    with traced_site(tmp_path, OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT="20") as site:
        before = site.server.stderr.read_text()
        for path in ("/queries/", "/raises/", "/many-facts/"):
            line, root = site.ask(path)
            assert len(root.attributes) == 20
            assert root.dropped_attributes > 0
            for key in ("event_type", "req_id", "req_method", "req_path", "resp_status"):
                shown = logfmt.parse(logfmt.encode([(key, root.attributes[attribute_of(key)])]))
                assert shown[key] == line[key]
            assert root.attributes["http.route"] == path[1:]
        new = site.server.stderr.read_text().removeprefix(before)
    assert [text for text in new.splitlines() if "attribute" in text.lower()] == []


def test_resource_names_distro_when_exported(traced: Traced) -> None:
    """Every span says which distro it comes from (semantic conventions, "Telemetry Distro")."""
    _, root = traced.ask("/ok/")
    assert root.resource["telemetry.distro.name"] == "otel-canonical"
    assert root.resource["telemetry.distro.version"]


def test_odd_facts_leave_span_whole_when_exported(either: Traced) -> None:
    """Values that no exporter can carry cost themselves, not the span."""
    line, root = either.ask("/odd-facts/")
    assert root.attributes["app.date"] == line["app_date"] == "2024-02-29"
    assert root.attributes["app.true"] is True
    assert root.attributes["http.route"] == "odd-facts/"
