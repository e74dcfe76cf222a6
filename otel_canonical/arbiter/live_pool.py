"""Shows the pool to the commands of `otel-canonical`, and keeps what they have switched.

Lives in the arbiter, in its main thread; called with each sample of the pool, once a second.
"""

from __future__ import annotations

import math
import platform
import sys
import time
from collections import deque
from typing import Any

from otel_canonical._version import __version__
from otel_canonical.internal_errors import guarded, tell
from otel_canonical.pool.ledger import PoolLedger, PoolSample, utilization
from otel_canonical.pool.scoreboard import Scoreboard
from otel_canonical.pool.switches import Switches, as_switches, unexpired
from otel_canonical.pool.worker_class import worker_class_of

#: How many samples the facts look back on: a minute.
HISTORY = 60


class LivePool:
    """Writes the facts of the pool to its scoreboards.

    Args:
        arbiter: Gunicorn's.
        ledger: the pool's books.
    """

    def __init__(self, arbiter: Any, ledger: PoolLedger) -> None:
        self._arbiter = arbiter
        self._ledger = ledger
        self._started_ns = time.monotonic_ns()
        self._started_wall_ns = time.time_ns()
        self._samples: deque[PoolSample] = deque(maxlen=HISTORY + 1)
        self._switched: Switches = {}
        self._generations: dict[Scoreboard, int] = {}
        self.show()

    def show(self) -> None:
        """Show what is known now."""
        self._write(self._facts())

    def take(self, sample: PoolSample) -> None:
        """Show a sample; notice and end what was switched."""
        self._samples.append(sample)
        with guarded("showing the pool to otel-canonical ps"):
            self.show()
        with guarded("keeping what otel-canonical set has switched"):
            self._keep_switches(time.monotonic_ns())

    def _facts(self) -> dict[str, Any]:
        arbiter = self._arbiter
        cfg = arbiter.cfg
        kind = worker_class_of(arbiter.worker_class)
        facts: dict[str, Any] = {
            "name": cfg.proc_name,
            # The arbiter doesn't listen itself before its start, after its end, and with --reuse-port.
            "bind": [str(listener) for listener in arbiter.LISTENERS] or _configured_bind(cfg),
            "started_ns": self._started_ns,
            "started_wall_ns": self._started_wall_ns,
            "versions": {
                "gunicorn": getattr(sys.modules.get("gunicorn"), "__version__", ""),
                "otel-canonical": __version__,
                "python": platform.python_version(),
            },
            "worker_class": f"{arbiter.worker_class.__module__}.{arbiter.worker_class.__qualname__}",
            "workers": cfg.workers,
            "timeout_s": cfg.timeout,
            "times_out": kind.times_out and cfg.timeout > 0,
        }
        if self._samples:
            facts |= self._of_samples(self._samples[0], self._samples[-1])
        return facts

    def _of_samples(self, first: PoolSample, last: PoolSample) -> dict[str, Any]:
        lost = {f"export_lost_{signal}": count for signal, count in last.export_lost.items()}
        return {
            "sampled_ns": last.at_ns,
            "workers": self._arbiter.num_workers,
            "utilization": utilization(first, last),
            "workers_started": last.workers_started,
            "deaths": {cause: count for cause, count in last.deaths.items() if count},
            "lines": {**last.counts, **lost},
            "history": [
                [sample.state.active_slots, sample.state.backlog]
                for sample in list(self._samples)[1:]
            ],
        }

    def _write(self, facts: dict[str, Any]) -> None:
        for scoreboard in self._ledger.scoreboards():
            scoreboard.write_facts(facts)

    def _keep_switches(self, now_ns: int) -> None:
        scoreboards = self._ledger.scoreboards()
        changed = [
            scoreboard
            for scoreboard in scoreboards
            if scoreboard.switches_generation[0] != self._generations.get(scoreboard, 0)
        ]
        switched = self._switched
        for scoreboard in changed:
            switched = as_switches(scoreboard.read_switches())
        living = unexpired(switched, now_ns)
        if living != switched:
            for scoreboard in scoreboards:
                scoreboard.write_switches(living)
        self._generations = {
            scoreboard: scoreboard.switches_generation[0] for scoreboard in scoreboards
        }
        before, self._switched = self._switched, living
        for name in before.keys() - living.keys():
            tell(f"{name} is as configured again")
        for name, (text, until_ns) in living.items():
            if before.get(name) != (text, until_ns):
                how_long = f" for {math.ceil((until_ns - now_ns) / 1e9)} s" if until_ns else ""
                tell(f"switched {name}={text}{how_long}")


def _configured_bind(cfg: Any) -> list[str]:
    """Return the configured addresses, written as Gunicorn writes those of listeners."""
    scheme = "https" if cfg.is_ssl else "http"
    found = []
    for address in cfg.address:
        if isinstance(address, tuple):
            host, port = address
            found.append(f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}")
        else:
            found.append(f"unix:{address}" if isinstance(address, str) else f"fd://{address}")
    return found
