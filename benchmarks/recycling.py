"""Workers that `--max-requests` recycles: under how many names their metrics arrive, ours and plain."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from client import send_requests
from environments import prepare_environments
from otlp_volume import KeepingSink, find_series
from rows import choose_rows
from servers import BOOTING, create_database, start_server

COUNTED = 500
AFTER = 50
ROWS = ("plain-otel-100", "ours-otlp-100")


def count_instances(directory: Path, sink: KeepingSink) -> list[tuple[str, int, int, int]]:
    """Return of each row: its name, how many workers it had, how many instance ids and series came."""
    rows = [row for row in choose_rows(ROWS) if row.name in ROWS]
    environments = prepare_environments({"bare", *(row.environment for row in rows)})
    database = directory / "site.sqlite3"
    create_database(environments["bare"], database)
    found = []
    for row in rows:
        recycled = dataclasses.replace(row, gunicorn_args=("--max-requests", str(AFTER)))
        home = directory / f"recycled-{row.name}"
        environment = environments[row.environment]
        with start_server(recycled, environment, home, database, sink.endpoint) as server:
            server.wait_until_ready()
            send_requests(server.address, "/ok/", COUNTED)
        workers = len(BOOTING.findall(server.log.read_text()))
        series = find_series(sink.bodies(row.name)["metrics"])
        instances = {instance for points in series.values() for instance, _ in points}
        found.append((f"`{row.name}`", workers, len(instances), sum(map(len, series.values()))))
    return found
