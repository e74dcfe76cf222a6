"""An open request as its slot of the scoreboard shows it, for the arbiter and the commands. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class OpenRequest:
    """An open request, as its slot shows it."""

    thread_id: int
    started_ns: int
    started_wall_ns: int
    is_exported: bool
    #: Its spans are recorded; the operator's rule decides on their export at its end.
    is_kept: bool
    queries: int
    #: By the names in `slots.REQUEST_TEXTS`, `ROUTE_TEXTS` and `USER_TEXTS`; an unknown text is empty or absent.
    texts: dict[str, str]
    #: By the names in `slots.WATCH_TEXTS`; empty if the watchdog has not looked.
    watched: dict[str, str]
    #: The number of the last query's SQL; 0 = none.
    sql_number: int = 0
    #: When the query or call began in which it waits, monotonic ns; None if it waits in none.
    waiting_since_ns: int | None = None
    #: The number of the text that names what is called; 0 for a query.
    system_number: int = 0
    #: Of the response whose head was sent; None if none was.
    status: int | None = None
