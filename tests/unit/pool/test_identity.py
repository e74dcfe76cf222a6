"""The identity of a pool: the same after a restart, another one beside a predecessor."""

from __future__ import annotations

import pytest

from otel_canonical.pool.identity import (
    NAMESPACE,
    identity_attributes,
    pool_name,
    successor_of,
)


@pytest.mark.parametrize(
    ("host", "binds", "environ", "name"),
    [
        ("web", [("127.0.0.1", 8000)], {}, "web ('127.0.0.1', 8000)"),
        ("web", ["/b", "/a"], {}, "web /a,/b"),
        ("web", ["/a"], {"OTEL_CANONICAL_SUCCESSOR": "1"}, "web /a 1"),
        ("web", ["/a"], {"OTEL_CANONICAL_SUCCESSOR": ""}, "web /a"),
    ],
)
def test_pool_name(host: str, binds: list[object], environ: dict[str, str], name: str) -> None:
    """The same after a restart, another while a predecessor still lives."""
    assert pool_name(host, binds, environ) == name


def test_arbiters_take_turns() -> None:
    """The successor's successor has the first one's name again: the first one is gone by then."""
    assert successor_of({}) == "1"
    assert successor_of({"OTEL_CANONICAL_SUCCESSOR": "1"}) == ""


def test_ids_are_in_the_namespace_of_the_semantic_conventions() -> None:
    """As "service.instance.id" asks of ids that are made from other names."""
    assert str(NAMESPACE) == "4d63009a-8d0f-11ee-aad7-4c796ed8e320"


def test_members_have_ids_of_their_own() -> None:
    """Workers by their numbers, the reporter, and another pool; the same in each run."""
    workers = [identity_attributes("web", number, {}) for number in (0, 1)]
    reporter = identity_attributes("web", None, {})
    elsewhere = identity_attributes("web 1", 0, {})
    assert [worker["gunicorn.worker.number"] for worker in workers] == [0, 1]
    assert list(reporter) == ["service.instance.id"]
    members = [*workers, reporter, elsewhere]
    assert len({member["service.instance.id"] for member in members}) == len(members)
    assert identity_attributes("web", 0, {}) == workers[0]


@pytest.mark.parametrize("given", ["service.instance.id=mine", "a=b, service.instance.id = mine"])
def test_id_of_the_user_stays(given: str) -> None:
    """Workers are then told apart by their numbers only."""
    environ = {"OTEL_RESOURCE_ATTRIBUTES": given}
    assert identity_attributes("web", 3, environ) == {"gunicorn.worker.number": 3}
    assert identity_attributes("web", None, environ) == {}
    other = {"OTEL_RESOURCE_ATTRIBUTES": "service.instance.idea=mine"}
    assert "service.instance.id" in identity_attributes("web", 3, other)
