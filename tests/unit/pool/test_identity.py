"""The identity of a pool: the same after a restart, another one beside a predecessor."""

from __future__ import annotations

import pytest

from otel_canonical.pool.identity import NAMESPACE, pool_name, successor_of


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
