"""Every metric of ours: name, instrument, unit and meaning. Pure.

The table of docs/METRICS.md is generated from here. Units are UCUM's; a name's parts are OpenTelemetry's
way of saying things: what is counted in the plural, `.count` and `.active` for how many there are.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MetricDescription:
    """One metric. `attribute` is empty where it has one series only."""

    name: str
    #: `gauge`, how it is now; `counter`, a total since the arbiter began, which only grows.
    instrument: str
    unit: str
    meaning: str
    attribute: str = ""
    #: What values the attribute has, for who must judge how many series there may be.
    values: str = ""


WORKERS_COUNT = MetricDescription(
    "gunicorn.workers.count", "gauge", "{worker}", "workers, also those still loading the app"
)
WORKERS_ACTIVE = MetricDescription(
    "gunicorn.workers.active", "gauge", "{worker}", "workers with a request in hand"
)
SLOTS_COUNT = MetricDescription(
    "gunicorn.slots.count",
    "gauge",
    "{slot}",
    "requests that can be served at once, workers x threads; absent for worker classes without a bound",
)
SLOTS_ACTIVE = MetricDescription(
    "gunicorn.slots.active", "gauge", "{slot}", "requests that are being served"
)
SLOTS_WAITING = MetricDescription(
    "gunicorn.slots.waiting",
    "gauge",
    "{request}",
    "accepted requests that wait for a thread; only where workers have threads",
)
BACKLOG = MetricDescription(
    "gunicorn.backlog",
    "gauge",
    "{connection}",
    "connections not accepted yet, over all binds; absent where nobody can tell",
)
UTILIZATION = MetricDescription(
    "gunicorn.utilization",
    "gauge",
    "1",
    "which share of the slots was busy since the last export, 0 to 1: an integral over time, not a "
    "look at a moment; absent for worker classes without a bound",
)
BUSY_TIME = MetricDescription(
    "gunicorn.slots.busy_time",
    "counter",
    "s",
    "for how long slots have been busy, together: its rate is the mean number of busy slots, for any "
    "worker class",
)
WORKERS_STARTED = MetricDescription(
    "gunicorn.workers.started", "counter", "{worker}", "workers started"
)
WORKERS_DIED = MetricDescription(
    "gunicorn.workers.died",
    "counter",
    "{worker}",
    "workers that are gone, by cause",
    "gunicorn.worker.death.cause",
    "`shutdown` (told to leave), `exit:0` (recycled), `timeout`, `oom`, `SIGKILL` or another signal, "
    "`exit:N`",
)
LINES = MetricDescription(
    "canonical.lines",
    "counter",
    "{line}",
    "lines by type; `request`, `timeout` and `lost` together are the requests accepted",
    "canonical.event_type",
    "`request`, `timeout`, `lost`, `slow`, `partial_failure`, `pool`",
)
LINES_DROPPED = MetricDescription(
    "canonical.lines.dropped",
    "counter",
    "{line}",
    "of these, the ones that could not be written: the output was full or broken",
)
LINES_SHORTENED = MetricDescription(
    "canonical.lines.shortened", "counter", "{line}", "of these, the ones that were too long"
)
REQUESTS_UNSHOWN = MetricDescription(
    "canonical.requests.unshown",
    "counter",
    "{request}",
    "requests that found no place on the scoreboard: had their worker died, no `lost` line would tell",
)
SAMPLES_DROPPED = MetricDescription(
    "canonical.samples.dropped",
    "counter",
    "{sample}",
    "samples of the pool that did not reach the reporter, because its pipe was full",
)
WORKER_MEMORY = MetricDescription(
    "gunicorn.worker.memory.pss",
    "gauge",
    "By",
    "a worker's memory, what it shares with others in parts (proportional set size); read at most every "
    "10 s; absent where the kernel doesn't let us",
    "gunicorn.worker.number",
    "0 to the number of workers, twice as many during a reload",
)

METRICS = (
    *(WORKERS_COUNT, WORKERS_ACTIVE, SLOTS_COUNT, SLOTS_ACTIVE, SLOTS_WAITING, BACKLOG),
    *(UTILIZATION, BUSY_TIME, WORKERS_STARTED, WORKERS_DIED, WORKER_MEMORY),
    *(LINES, LINES_DROPPED, LINES_SHORTENED, REQUESTS_UNSHOWN, SAMPLES_DROPPED),
)
