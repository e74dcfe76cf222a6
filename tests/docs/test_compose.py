"""`docker-compose.yml` and its dashboard, checked without running a container."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from otel_canonical.event import fields
from tests.support.demo_shop import shop
from tests.support.peers.tools import REPOSITORY, go_program, node_program
from tests.support.servers import DEMO, eventually, stop

COMPOSE = REPOSITORY / "docker-compose.yml"
DOCKERFILE = DEMO / "Dockerfile"
DASHBOARD = REPOSITORY / "grafana" / "dashboard.json"
PROVIDER = REPOSITORY / "grafana" / "provider.yaml"
PATIENCE_S = 60.0

#: Labels that are no fields: the resource's, and what queries make themselves.
OTHER_LABELS = {"service_name", "outcome"}
VARIABLES = {"$service": ".+", "$route": ".*", "$__range": "15m", "$__auto": "1m"}
COLUMNS = 24

#: What the dashboard promises, and a label that the panel can't do without.
PROMISES = {
    "Requests by route and outcome": "http_route",
    "Duration": "canonical_duration",
    "Saturation": "gunicorn_workers_active",
    "Timeouts by location": "canonical_timeout_loc",
    "Lost by cause": "canonical_lost_cause",
    "N+1 suspects": "canonical_db_dup_queries",
}


@cache
def project() -> dict[str, Any]:
    """Return what the loader of the compose specification's authors makes of the file."""
    loader = go_program("compose", "tests/support/peers/compose", "loader")
    done = subprocess.run(
        [loader, COMPOSE], capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_compose_file_is_accepted() -> None:
    """Schema, references between services and conditions: as `docker compose config` would say."""
    assert set(project()["services"]) == {"shop", "visitors", "collector", "grafana"}


def test_mounted_files_are_here() -> None:
    """What a container is given is a file of the repository, and read-only."""
    mounts = [
        mount for service in project()["services"].values() for mount in service.get("volumes", [])
    ]
    assert {Path(mount["source"]) for mount in mounts} == {
        DASHBOARD,
        PROVIDER,
        REPOSITORY / "collector-config.yaml",
    }
    assert all(Path(mount["source"]).is_file() and mount["read_only"] for mount in mounts)
    paths = {Path(mount["source"]).name: mount["target"] for mount in mounts}
    assert f"path: {paths['dashboard.json']}" in PROVIDER.read_text()
    assert project()["services"]["collector"]["command"] == [
        f"--config={paths['collector-config.yaml']}"
    ]


def test_ports_are_for_this_machine_only() -> None:
    """Nothing listens to the network: the backend knows no password."""
    services = project()["services"].values()
    ports = [port for service in services for port in service.get("ports", [])]
    assert {port["published"] for port in ports} == {"8000", "3000", "4317", "4318"}
    assert {port["host_ip"] for port in ports} == {"127.0.0.1"}


def test_collector_knows_the_variables_that_it_is_given() -> None:
    """Each is named in its configuration, and each leads to a service that is there."""
    given = project()["services"]["collector"]["environment"]
    named = set(re.findall(r"\$\{env:(\w+)", (REPOSITORY / "collector-config.yaml").read_text()))
    assert set(given) <= named
    endpoints = [given["BACKEND_OTLP_ENDPOINT"]]
    endpoints.append(project()["services"]["shop"]["environment"]["OTEL_EXPORTER_OTLP_ENDPOINT"])
    assert {re.fullmatch(r"http://(\w+):4318", endpoint)[1] for endpoint in endpoints} <= set(
        project()["services"]
    )


def test_image_is_made_of_what_is_not_ignored() -> None:
    """Every file that the Dockerfile copies is in the repository and let through to the build."""
    let_through = re.findall(r"^!(\S+)$", (REPOSITORY / ".dockerignore").read_text(), re.MULTILINE)
    copied = [
        source
        for line in re.findall(r"^COPY (.+)$", DOCKERFILE.read_text(), re.MULTILINE)
        for source in line.split()[:-1]
    ]
    assert sorted(copied) == sorted(let_through)
    assert all((REPOSITORY / source).exists() for source in copied)


def test_visitors_keep_the_shop_busy(tmp_path: Path) -> None:
    """What the compose file starts beside the shop sends it requests, and goes on."""
    command = project()["services"]["visitors"]["command"]
    assert command[:2] == ["python", "demo/keep_busy.py"]
    with shop(tmp_path, workers=3) as server:
        host, port = server.address
        visitors = subprocess.Popen(
            [sys.executable, str(DEMO / "keep_busy.py"), str(host), str(port)],
            start_new_session=True,
        )
        try:
            eventually(lambda: len(server.lines()) > 10, server.report)
            assert visitors.poll() is None
        finally:
            stop(visitors)


def dashboard() -> dict[str, Any]:
    """Return the dashboard."""
    found: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return found


def queries() -> Iterator[tuple[str, str]]:
    """Return title and query of each target, with Grafana's variables replaced as it would."""
    for panel in dashboard()["panels"]:
        for target in panel["targets"]:
            query = target["expr"]
            for name, value in VARIABLES.items():
                query = query.replace(name, value)
            yield panel["title"], query


@pytest.fixture(scope="module")
def read_queries() -> list[dict[str, Any]]:
    """Return what the grammar of Grafana's own editor makes of each query."""
    done = subprocess.run(
        node_program("logql", "tests/support/peers/logql"),
        input=json.dumps([query for _, query in queries()]),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
    )
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def labels_of_fields() -> set[str]:
    """Return the labels that Loki makes of our attributes: letters, digits and underscores."""
    return {field.attribute.replace(".", "_") for field in fields.FIELDS if field.attribute}


def test_queries_are_logql(read_queries: list[dict[str, Any]]) -> None:
    """None has a part that Grafana's own grammar doesn't understand, and no variable is left over."""
    assert [read["errors"] for read in read_queries if read["errors"]] == []
    assert [query for _, query in queries() if "$" in query] == []


def test_queries_speak_of_fields_that_exist(read_queries: list[dict[str, Any]]) -> None:
    """Every label, also inside a template, is an attribute of the log event."""
    named = {name for read in read_queries for name in read["names"]}
    named |= {
        name for _, query in queries() for name in re.findall(r"\.(\w+)\b(?=[^{}]*}})", query)
    }
    assert named - labels_of_fields() - OTHER_LABELS == set()
    assert len(named) > 15


def test_dashboard_shows_what_it_promises(read_queries: list[dict[str, Any]]) -> None:
    """Routes and outcomes, percentiles, saturation, timeouts, lost requests, N+1: all are there."""
    names: dict[str, set[str]] = {}
    for (title, _), read in zip(queries(), read_queries, strict=True):
        names.setdefault(title, set()).update(read["names"])
    assert {title: label for title, label in PROMISES.items() if label in names[title]} == PROMISES
    [duration] = [panel for panel in dashboard()["panels"] if panel["title"] == "Duration"]
    assert [target["legendFormat"] for target in duration["targets"]] == ["p50", "p95", "p99"]


def test_panels_have_places_of_their_own() -> None:
    """None lies on another or beyond the edge; each has an id, and its data source is provisioned."""
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert {panel["datasource"]["uid"] for panel in panels} == {"loki"}
    places = [panel["gridPos"] for panel in panels]
    assert all(place["x"] + place["w"] <= COLUMNS for place in places)
    for one, other in itertools.combinations(places, 2):
        apart = (
            one["x"] + one["w"] <= other["x"]
            or other["x"] + other["w"] <= one["x"]
            or one["y"] + one["h"] <= other["y"]
            or other["y"] + other["h"] <= one["y"]
        )
        assert apart, (one, other)
