"""What a report is about: the lines of a time and a route, as views that its sections ask."""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from dataclasses import dataclass

from otel_canonical.reading.columns import COLUMNS
from otel_canonical.reading.events import Events
from otel_canonical.reading.problems import CommandFailed
from otel_canonical.reading.sections import Row

#: The keys that a report needs; the others aren't loaded.
KEYS = tuple(
    key
    for key in COLUMNS
    if key
    not in (
        *(
            "req_id",
            "trace_id",
            "span_id",
            "sampled",
            "req_query",
            "req_referrer",
            "req_user_agent",
        ),
        *("req_scheme", "req_proto", "req_client", "req_bytes", "user_id", "g_pid", "g_w_requests"),
        *("slow_stack", "truncated", "req_path", "resp_bytes"),
    )
)

#: Repeated queries on lines that don't name the worst of them: fewer are no N+1.
SUSPECT_REPEATS = 5
NO_ROUTE = "(no route)"

_BUCKETS_S = (1, 2, 5, 10, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400)
_SPAN = re.compile(r"(\d+)([smhd])")
_SPAN_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_CLOCK = re.compile(r"\d{1,2}:\d\d(?::\d\d)?")


@dataclass(frozen=True, slots=True)
class Limits:
    """Which lines count: as they were given on the command line."""

    since: str | None = None
    until: str | None = None
    route: str | None = None


class Scope:
    """The lines of a report, in the views `seen` (all) and `endings` (one for each request).

    Args:
        events: as loaded.
        limits: which of them count.

    Raises:
        CommandFailed: there are none, or a limit is no time.
    """

    def __init__(self, events: Events, limits: Limits) -> None:
        self._events = events
        self.foreign = events.foreign
        first, last = events.row("SELECT min(ts), max(ts) FROM events")
        if first is None:
            raise CommandFailed("there are no canonical lines in what was given")
        conditions = ["true"]
        if limits.since:
            conditions.append(f"ts >= TIMESTAMP '{moment(limits.since, last)}'")
        if limits.until:
            conditions.append(f"ts <= TIMESTAMP '{moment(limits.until, last)}'")
        systems = [
            key
            for key, kind in events.extra.items()
            if key.endswith("_time") and kind == "DOUBLE" and not key.startswith("app_")
        ]
        other = " + ".join(f'coalesce("{key}", 0)' for key in systems) or "0"
        events.connection.execute(
            f"CREATE TEMP VIEW seen AS SELECT *, coalesce(nullif(req_route, ''), '{NO_ROUTE}') AS route "
            f"FROM events WHERE {' AND '.join(conditions)}"
        )
        self._limit_route(limits.route)
        events.connection.execute(f"""
            CREATE TEMP VIEW endings AS SELECT *,
                event_type <> 'request' OR coalesce(resp_status, 0) >= 500 AS failed,
                coalesce(db_time, 0) + coalesce(db_fetch_time, 0) + coalesce(db_connect_time, 0)
                    + coalesce(db_txn_time, 0) AS database_time,
                coalesce(db_n1_time, CASE WHEN db_dup_queries >= {SUSPECT_REPEATS} THEN db_dup_time END, 0)
                    AS repeated_time,
                {other} AS systems_time
            FROM limited WHERE event_type IN ('request', 'timeout', 'lost')
        """)
        self.requests, self.first, self.last = self.row(
            "SELECT count(*), min(ts), max(ts) FROM endings"
        )
        if not self.requests:
            raise CommandFailed("no request is within --since, --until and --route")

    def _limit_route(self, route: str | None) -> None:
        connection = self._events.connection
        if route is None:
            connection.execute("CREATE TEMP VIEW limited AS SELECT * FROM seen")
            return
        pattern = route.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        pattern = pattern.replace("*", "%").replace("'", "''")
        connection.execute(
            f"CREATE TEMP VIEW limited AS SELECT * FROM seen WHERE route LIKE '{pattern}' ESCAPE '\\'"
        )

    def rows(self, sql: str, parameters: Sequence[object] = ()) -> list[Row]:
        """Return the answer to a query."""
        return self._events.rows(sql, parameters)

    def row(self, sql: str, parameters: Sequence[object] = ()) -> Row:
        """Return the only row of the answer to a query."""
        return self._events.row(sql, parameters)

    def bucket_s(self, most: int) -> int:
        """Return how many seconds one of at most so many parts of the time is, a round number."""
        lasts_s = (self.last - self.first).total_seconds()
        return next((size for size in _BUCKETS_S if lasts_s / size < most), _BUCKETS_S[-1])

    def bucket(self, most: int) -> str:
        """Return the SQL of a line's part of the time."""
        return f"time_bucket(INTERVAL {self.bucket_s(most)} SECOND, ts)"


def moment(text: str, last: datetime.datetime) -> datetime.datetime:
    """Return the moment that a limit means, in UTC.

    A date and time are themselves; a time of day is that of the last line's day, or of the day before if
    it would be later than that line; `30m`, `2h`, `1d` are so long before the last line.

    Raises:
        CommandFailed: it is none of these.
    """
    if found := _SPAN.fullmatch(text):
        return last - datetime.timedelta(seconds=int(found[1]) * _SPAN_S[found[2]])
    try:
        if _CLOCK.fullmatch(text):
            clock = datetime.time.fromisoformat(text.zfill(5 if text.count(":") == 1 else 8))
            found_at = datetime.datetime.combine(last.date(), clock)
            return found_at if found_at <= last else found_at - datetime.timedelta(days=1)
        given = datetime.datetime.fromisoformat(re.sub("[zZ]$", "+00:00", text))
    except ValueError:
        raise CommandFailed(
            f"{text!r} is no time: 14:30, 2026-11-26T14:30, or 2h for the last two hours"
        ) from None
    if given.tzinfo is not None:
        given = given.astimezone(datetime.timezone.utc).replace(tzinfo=None)
    return given
