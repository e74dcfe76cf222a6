"""The messages from the arbiter to the reporter: one JSON object a line, through a pipe. Pure."""

from __future__ import annotations

import json
import signal
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from otel_canonical.event.event import CanonicalEvent, EventType
from otel_canonical.pool.ledger import PoolSample
from otel_canonical.pool.scoreboard import PoolState

#: Signals that a terminal or a supervisor may send to all of a server's processes. The reporter ignores
#: them: it ends when its input ends.
LEFT_TO_ARBITER = frozenset(
    (
        *(signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP),
        *(signal.SIGUSR1, signal.SIGUSR2),
    )
)


@dataclass(frozen=True, slots=True)
class TraceIds:
    """The ids under which a request's line, span and log event are joined; lower-case hex.

    Attributes:
        trace_id: 32 digits.
        span_id: 16 digits.
        parent_span_id: 16 digits, empty without a caller.
        is_exported: whether the root span is exported.
    """

    trace_id: str
    span_id: str
    parent_span_id: str
    is_exported: bool


@dataclass(frozen=True, slots=True)
class LostRequestReport:
    """A request whose worker died: the reporter makes its root span and its log event.

    Attributes:
        span_name: of the root span, as the HTTP semantic conventions want it.
        ids: those of its line.
        started_wall_ns: nanoseconds since the epoch.
        ended_wall_ns: nanoseconds since the epoch.
        event: its `timeout` or `lost` event.
        export_rule: the rule that exports it whatever the sampler said; None without one.
    """

    span_name: str
    ids: TraceIds
    started_wall_ns: int
    ended_wall_ns: int
    event: CanonicalEvent
    export_rule: str | None = None

    def to_json(self) -> str:
        """Return the message without a newline."""
        return json.dumps(
            {
                "kind": "lost_request",
                "span_name": self.span_name,
                "ids": asdict(self.ids),
                "started_wall_ns": self.started_wall_ns,
                "ended_wall_ns": self.ended_wall_ns,
                "event_type": self.event.event_type.value,
                "pairs": self.event.pairs,
                "stack": self.event.stack,
                "made_wall_ns": self.event.made_wall_ns,
                "export_rule": self.export_rule,
            }
        )

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> LostRequestReport:
        """Return the report that a parsed message holds."""
        event = CanonicalEvent.of_pairs(
            EventType(facts["event_type"]),
            [(key, value) for key, value in facts["pairs"]],
            facts["stack"],
            facts["made_wall_ns"],
        )
        return cls(
            facts["span_name"],
            TraceIds(**facts["ids"]),
            facts["started_wall_ns"],
            facts["ended_wall_ns"],
            event,
            facts["export_rule"],
        )


@dataclass(frozen=True, slots=True)
class PoolReport:
    """A sample of the pool, for the pool's metrics.

    Attributes:
        sample: the pool at one moment.
        starts: how many reporters the arbiter has started, this one included.
        dropped_samples: samples that the pipe had no room for.
    """

    sample: PoolSample
    starts: int
    dropped_samples: int

    def to_json(self) -> str:
        """Return the message without a newline."""
        return json.dumps(
            {
                "kind": "pool",
                "sample": {**self.sample._asdict(), "state": self.sample.state._asdict()},
                "starts": self.starts,
                "dropped_samples": self.dropped_samples,
            }
        )

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> PoolReport:
        """Return the report that a parsed message holds."""
        sample = dict(facts["sample"])
        sample["state"] = PoolState(**sample["state"])
        sample["pids"] = {int(number): pid for number, pid in sample["pids"].items()}
        return cls(PoolSample(**sample), facts["starts"], facts["dropped_samples"])


_KINDS: dict[str, type[LostRequestReport] | type[PoolReport]] = {
    "lost_request": LostRequestReport,
    "pool": PoolReport,
}


def parse_report(line: str) -> LostRequestReport | PoolReport:
    """Return the report on one line.

    Raises:
        ValueError: the line is no JSON.
        KeyError: it is no message of this version.
    """
    facts = json.loads(line)
    return _KINDS[facts["kind"]].from_json(facts)
