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
from tests.support.dashboard import DASHBOARD, dashboard, queries_of
from tests.support.demo_shop import shop
from tests.support.peers.tools import REPOSITORY, go_program, node_program
from tests.support.servers import DEMO, eventually, stop

COMPOSE = REPOSITORY / "docker-compose.yml"
DOCKERFILE = DEMO / "Dockerfile"
PROVIDER = REPOSITORY / "grafana" / "provider.yaml"
PATIENCE_S = 60.0

#: Labels that are no fields: the resource's, and what queries make themselves.
OTHER_LABELS = {"service_name", "outcome", "share"}
COLUMNS = 24

#: What the dashboard promises, and a label that the panel can't do without.
PROMISES = {
    "Requests by route and outcome": "http_route",
    "Duration": "canonical_duration",
    "Saturation": "gunicorn_workers_active",
    "Timeouts by location": "canonical_timeout_loc",
    "Lost by cause": "canonical_lost_cause",
    "N+1 by location": "canonical_db_n1_loc",
    "Time by place": "canonical_db_time",
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
    services = project()["services"]
    assert set(services) == {"shop", "visitors", "collector", "collector-is-healthy", "grafana"}


def test_images_are_pinned_and_built_once() -> None:
    """No image is `latest`; the demo's is built by one service and used by the others."""
    services = project()["services"]
    assert [name for name, service in services.items() if "build" in service] == ["shop"]
    own = services["shop"]["image"]
    others = {service["image"] for service in services.values()} - {own}
    assert all(re.search(r":\d+\.\d+\.\d+$", image) for image in others)
    for name in ("visitors", "collector-is-healthy"):
        assert (services[name]["image"], services[name]["pull_policy"]) == (own, "never")


def test_everything_waits_for_what_is_healthy() -> None:
    """Each server has a health check, the Collector's by a service that ends well when it answers."""
    services = project()["services"]
    assert services["shop"]["healthcheck"]["test"] == ["CMD", "otel-canonical", "ready"]
    assert services["grafana"]["healthcheck"]
    assert services["collector"]["depends_on"]["grafana"]["condition"] == "service_healthy"
    waits = services["visitors"]["depends_on"]
    assert waits["shop"]["condition"] == "service_healthy"
    assert waits["collector-is-healthy"]["condition"] == "service_completed_successfully"
    asks = services["collector-is-healthy"]["command"]
    compile(asks[2], "command", "exec")
    port = services["collector"]["environment"]["HEALTH_ENDPOINT"].rpartition(":")[2]
    assert f"http://collector:{port}" in asks[2]


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


def queries() -> Iterator[tuple[str, str]]:
    """Return title and query of each target that asks Loki."""
    return queries_of("loki")


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


def test_data_sources_are_chosen_by_variables() -> None:
    """An import elsewhere asks for nothing that is not there: no data source is named by its uid."""
    variables = {
        variable["name"]: variable["query"]
        for variable in dashboard()["templating"]["list"]
        if variable["type"] == "datasource"
    }
    assert variables == {name: name for name in ("loki", "prometheus", "tempo")}
    for panel in dashboard()["panels"]:
        for source in (panel["datasource"], *(target["datasource"] for target in panel["targets"])):
            assert source["uid"] == f"${{{source['type']}}}"


def test_queries_make_no_series_for_each_event() -> None:
    """`max(max_over_time())` makes one (loki#23474), and `topk` over time is chosen anew at each step."""
    for title, query in queries():
        assert not re.search(r"(max|min|avg)( by \([^)]*\))? ?\((max|min|avg)_over_time", query), (
            title
        )
        assert "topk" not in query, title


def test_no_route_has_a_name() -> None:
    """Where a panel shows routes, requests without one are a series that says so."""
    for title, query in queries():
        if re.search(r"by \([^)]*http_route", query):
            assert "(no route)" in query, title


def test_rows_lead_to_logs_and_traces() -> None:
    """Links of the tables are addresses of Grafana's Explore with a query, and one leads to Tempo."""
    text = DASHBOARD.read_text()
    links = [
        link["url"]
        for panel in dashboard()["panels"]
        for link in panel["fieldConfig"]["defaults"].get("links", [])
    ]
    assert len(links) >= 5
    for url in links:
        panes = json.loads(url.partition("panes=")[2])
        assert panes["a"]["queries"][0]["expr"].startswith("{service_name=~")
    assert '\\"type\\":\\"tempo\\"' in text
    [deploys] = dashboard()["annotations"]["list"]
    assert deploys["target"]["tags"] == ["deploy"]


def test_panels_have_places_of_their_own() -> None:
    """None lies on another or beyond the edge, and each has an id."""
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
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
