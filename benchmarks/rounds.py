"""One round: all rows up at once, loaded in turn a few requests at a time, then stopped."""

from __future__ import annotations

import contextlib
import random
import time
from dataclasses import dataclass, field
from pathlib import Path

from client import send_requests
from cpu import CpuTime
from evidence import EvidenceError, check_lines
from rows import Row
from servers import Server, start_server
from sink import Received, Sink

EXPORT_PAUSE_S = (
    5.5  # a batch leaves by timer after 5 s at most (OTEL_BSP_SCHEDULE_DELAY's default)
)


@dataclass(frozen=True, slots=True)
class Plan:
    """How much load a round puts on every row."""

    loads: tuple[tuple[str, int], ...]  # path, measured requests
    warm_up: int
    block: int
    idle_s: float
    server_core: int | None  # where all servers run, while the client has another; None: anywhere


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU per request on one path, in µs; `later` is the part used between the row's blocks."""

    worker_us: float
    server_us: float
    later_us: float


@dataclass(slots=True)
class RowResult:
    """What one round found out about one row."""

    costs: dict[str, Cost] = field(default_factory=dict)
    idle_us_per_s: float = 0.0
    sent: dict[str, int] = field(default_factory=dict)
    received: Received = field(default_factory=Received)


def run_round(
    rows: tuple[Row, ...],
    environments: dict[str, Path],
    database: Path,
    directory: Path,
    plan: Plan,
    sink: Sink,
    seed: int,
) -> dict[str, RowResult]:
    """Return each row's result; raises if a server failed or a line is missing."""
    order = random.Random(seed)
    results = {row.name: RowResult() for row in rows}
    with contextlib.ExitStack() as stack:
        servers = []
        for row in order.sample(rows, len(rows)):
            environment, home = environments[row.environment], directory / row.name
            start = start_server(row, environment, home, database, sink.endpoint, plan.server_core)
            servers.append(stack.enter_context(start))
        for server in servers:
            server.wait_until_ready()
        for path, count in plan.loads:
            costs = _measure_path(servers, path, count, plan, order)
            for name, cost in costs.items():
                results[name].costs[path] = cost
                results[name].sent[path] = plan.warm_up + count
        for name, rate in _measure_idle(servers, plan.idle_s).items():
            results[name].idle_us_per_s = rate
    for row in rows:
        check_lines(row, directory / row.name, results[row.name].sent)
        results[row.name].received = _check_export(row, sink, results[row.name].sent)
    return results


def _measure_path(
    servers: list[Server], path: str, count: int, plan: Plan, order: random.Random
) -> dict[str, Cost]:
    for server in servers:
        send_requests(server.address, path, plan.warm_up)
    _let_batches_leave(servers)
    for server in servers:
        server.meet_family()
    begun = {server: server.read_cpu() for server in servers}
    in_load = dict.fromkeys(servers, CpuTime())
    for done in range(0, count, plan.block):
        for server in order.sample(servers, len(servers)):  # a new order for every block
            before = server.read_cpu()
            send_requests(server.address, path, min(plan.block, count - done))
            in_load[server] += server.read_cpu() - before
    _let_batches_leave(servers)
    overall = {server: server.read_cpu() - begun[server] for server in servers}
    for server in servers:
        server.check_family()
    return {
        server.row.name: _to_cost(
            in_load[server], overall[server] if server.row.exports else in_load[server], count
        )
        for server in servers
    }


def _to_cost(in_load: CpuTime, charged: CpuTime, count: int) -> Cost:
    scale = 1000 * count
    later_ns = charged.worker_ns - in_load.worker_ns
    return Cost(charged.worker_ns / scale, charged.server_ns / scale, later_ns / scale)


def _let_batches_leave(servers: list[Server]) -> None:
    if any(server.row.exports for server in servers):
        time.sleep(EXPORT_PAUSE_S)


def _measure_idle(servers: list[Server], idle_s: float) -> dict[str, float]:
    """Return what each whole server uses when nobody asks it anything, in µs per second."""
    before = {server: server.read_cpu() for server in servers}
    time.sleep(idle_s)
    return {
        server.row.name: (server.read_cpu() - before[server]).server_ns / 1000 / idle_s
        for server in servers
    }


def _check_export(row: Row, sink: Sink, sent: dict[str, int]) -> Received:
    received = sink.take(row.name)
    if row.sends_every_trace and not received.server_spans:
        raise EvidenceError(
            f"{row.name}: sent {sum(sent.values())} requests, no server span arrived"
        )
    return received
