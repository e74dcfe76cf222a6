"""Gunicorn's configuration of `encoders.py`: keeps each event as it reaches the encoder.

A row is a constant of the package, so it is kept by its name, its values as a literal.
"""

from __future__ import annotations

import os
from typing import Any


def keep_events() -> None:
    """Wrap the encoder: the event of each request is written to a file, then goes on as ever."""
    from otel_canonical.event import rows
    from otel_canonical.event.event import CanonicalEvent, EventType
    from otel_canonical.event.line_writer import LineWriter
    from otel_canonical.request.database_facts import NAMED_QUERIES

    names = {id(row): name for name, row in vars(rows).items() if name.isupper()}
    target = os.open(os.environ["BENCHMARK_EVENTS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    encode = LineWriter.encode

    def keep_and_encode(writer: LineWriter, event: CanonicalEvent) -> bytes:
        if event.event_type is EventType.REQUEST:
            captured: list[tuple[str, Any]] = [
                # The one row that is no constant of `rows` shows details.
                ("DETAILS", NAMED_QUERIES.details(values))
                if row is NAMED_QUERIES
                else (names[id(row)], values)
                for row, values in rows.apart(event._rows)
            ]
            os.write(target, f"{(event.event_type.value, captured)!r}\n".encode())
        return encode(writer, event)

    LineWriter.encode = keep_and_encode  # type: ignore[method-assign]


# Before a worker is forked: it takes the encoder over when it begins.
keep_events()
