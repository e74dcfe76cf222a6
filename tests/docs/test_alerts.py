"""Alert rules and the dashboard's metrics: Prometheus reads them, and a real server exports what they name."""

from __future__ import annotations

import json
import re
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

import yaml

from tests.support.addresses import unused_address
from tests.support.dashboard import queries_of
from tests.support.peers.collector import collector
from tests.support.peers.tools import REPOSITORY, go_program
from tests.support.servers import eventually, gunicorn

RULES = REPOSITORY / "grafana" / "alerts-prometheus.yaml"
OF_GRAFANA = REPOSITORY / "grafana" / "alerts-grafana.yaml"

#: Exported by the Collector as Prometheus would scrape it.
SCRAPED = """\
receivers:
  otlp:
    protocols: {{http: {{endpoint: "127.0.0.1:0"}}}}
exporters:
  prometheus: {{endpoint: "{address}"}}
service:
  pipelines:
    metrics: {{receivers: [otlp], exporters: [prometheus]}}
"""
#: Only a loss has them; other tests provoke losses, and read these metrics by OTLP.
OF_LOSSES = {"canonical_export_lost_total"}


def metrics_named_in(file: Path) -> dict[str, list[str]]:
    """Return the metrics of each rule, as Prometheus' own parser reads the file."""
    reader = go_program("rules", "tests/support/peers/rules", "reader")
    done = subprocess.run([reader, file], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    found: dict[str, list[str]] = json.loads(done.stdout)
    return found


def rules() -> list[dict[str, Any]]:
    """Return the rules for Prometheus."""
    [group] = yaml.safe_load(RULES.read_text())["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def as_rules(directory: Path) -> Path:
    """Return a file of rules with the dashboard's queries for Prometheus."""
    made = [
        {"alert": f"panel{number}", "expr": query}
        for number, (_, query) in enumerate(queries_of("prometheus"))
    ]
    file = directory / "dashboard.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": made}]}))
    return file


def test_each_alert_says_what_to_do() -> None:
    """A sentence on what is wrong with which service, and one on what to do about it."""
    assert len(rules()) >= 8
    for rule in rules():
        assert rule["annotations"]["summary"].startswith("{{ $labels.job }}: ")
        assert re.fullmatch(r"[A-Z].+\.", rule["annotations"]["description"])
        assert rule["labels"]["severity"] in ("page", "ticket")


def test_grafana_has_the_same_alerts() -> None:
    """Names, queries, bounds and durations, as Grafana provisions them."""
    document = yaml.safe_load(OF_GRAFANA.read_text())
    [group] = document["groups"]
    assert (document["apiVersion"], group["folder"]) == (1, "otel-canonical")
    ours = {
        rule["title"]: (
            f"{rule['data'][0]['model']['expr']} > "
            f"{rule['data'][1]['model']['conditions'][0]['evaluator']['params'][0]}",
            rule["for"],
        )
        for rule in group["rules"]
    }
    assert ours == {rule["alert"]: (rule["expr"], rule["for"]) for rule in rules()}
    assert len({rule["uid"] for rule in group["rules"]}) == len(ours)


def test_real_server_exports_what_rules_name(tmp_path: Path) -> None:
    """By way of the Collector's exporter for Prometheus: names, units' suffixes and labels."""
    named = {
        name
        for file in (RULES, as_rules(tmp_path))
        for names in metrics_named_in(file).values()
        for name in names
    }
    address = unused_address()
    with collector(tmp_path, f"yaml:{SCRAPED.format(address=address)}") as peer:
        site_directory = tmp_path / "site"
        site_directory.mkdir()
        with gunicorn(
            "every_kind",
            site_directory,
            SITE_DIRECTORY=str(site_directory),
            OTEL_EXPORTER_OTLP_ENDPOINT=peer.endpoint,
            OTEL_TRACES_EXPORTER="none",
            OTEL_LOGS_EXPORTER="none",
            OTEL_METRIC_EXPORT_INTERVAL="200",
            OTEL_SERVICE_NAME="shop",
            OTEL_PYTHON_CANONICAL_EXCLUDED_URLS="",
        ) as site:
            site.get("/raises/")
            site.get("/exits/")
            wanted = named - OF_LOSSES

            def scraped() -> str:
                with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
                    return str(answer.read().decode())

            def missing() -> set[str]:
                return wanted - set(re.findall(r"^(\w+)\{", scraped(), re.MULTILINE))

            eventually(lambda: not missing(), lambda: f"{missing()}\n{scraped()}\n{peer.said()}")
            text = scraped()
    assert 'canonical_event_type="request"' in text
    assert 'http_response_status_code="500"' in text
    assert 'job="shop"' in text
    for rule in rules():
        labels = set(re.findall(r"by \(([^)]+)\)", rule["expr"])[0].split(", "))
        assert labels - {"otel_signal", "gunicorn_worker_death_cause"} == {"job"}
