"""What `ps --json` says of a pool, its workers and its open requests: docs/LIVE.md describes each key. Pure."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

_NS = 1e9


@dataclass(slots=True)
class LiveRequest:
    """An open request. What is not known is None."""

    worker_pid: int
    worker: int
    age: float
    state: str
    method: str | None
    path: str | None
    route: str | None
    view: str | None
    client: str | None
    host: str | None
    user: str | None
    queries: int
    sql: str | None
    waits_in: str | None
    waits: float | None
    req_id: str | None
    trace_id: str | None
    deadline: float | None
    seen_at: str | None
    #: By these a stack is joined to the request.
    started_ns: int
    thread_id: int


@dataclass(slots=True)
class LiveWorker:
    """A worker. `heartbeat` is how long ago it last told the arbiter that it is alive."""

    number: int
    pid: int
    age: float
    state: str
    is_booted: bool
    requests: int
    busy: int
    slots: int
    waiting: int
    memory: int | None
    pss: int | None
    heartbeat: float | None
    #: Where a command finds it, see `counters`.
    words: list[int] = field(repr=False, default_factory=list)


@dataclass(slots=True)
class LivePool:
    """A pool at one moment; `facts` are the arbiter's, a second old at most while that works."""

    pid: int
    state: str
    facts: dict[str, Any]
    #: How old the arbiter's facts are, s; None before the first sample.
    facts_age: float | None
    backlog: int | None
    is_bounded: bool
    has_queues: bool
    workers: list[LiveWorker]
    requests: list[LiveRequest]
    switches: dict[str, Any]

    @property
    def busy(self) -> int:
        """How many requests are open."""
        return sum(worker.busy for worker in self.workers)

    @property
    def slots(self) -> int | None:
        """How many requests can be served at once; None without a bound."""
        return sum(worker.slots for worker in self.workers) if self.is_bounded else None

    def as_json(self) -> dict[str, Any]:
        """Return what `ps --json` says of the pool."""
        facts = self.facts
        workers = [_without(asdict(worker), "words") for worker in self.workers]
        return {
            "pid": self.pid,
            "state": self.state,
            "name": facts.get("name"),
            "bind": facts.get("bind", []),
            "age": age_of(facts.get("started_ns")),
            "versions": facts.get("versions", {}),
            "worker_class": facts.get("worker_class"),
            "configured_workers": facts.get("workers"),
            "slots": self.slots,
            "busy": self.busy,
            "backlog": self.backlog,
            "waiting": sum(worker.waiting for worker in self.workers) if self.has_queues else None,
            "utilization": facts.get("utilization"),
            "deaths": facts.get("deaths", {}),
            "lines": facts.get("lines", {}),
            "facts_age": self.facts_age,
            "pss": _sum(worker.pss for worker in self.workers),
            "switches": self.switches,
            "workers": workers,
            "requests": [asdict(request) for request in self.requests],
        }


def age_of(since_ns: int | None) -> float | None:
    """Return how long ago a moment was, s; None for none. Monotonic ns."""
    return max(time.monotonic_ns() - since_ns, 0) / _NS if since_ns else None


def _sum(sizes: Iterator[int | None]) -> int | None:
    known = list(sizes)
    return sum(size or 0 for size in known) if known and None not in known else None


def _without(pairs: dict[str, Any], name: str) -> dict[str, Any]:
    pairs.pop(name)
    return pairs
