"""Encodes events and writes each as one line: the last step of every event, in every process.

What could not be written is counted, and reported by `event.output`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from otel_canonical.event import json_lines, line_length, logfmt
from otel_canonical.event.chosen_fields import LineFields
from otel_canonical.event.event import CanonicalEvent
from otel_canonical.event.fields import PROTECTED, FieldValue
from otel_canonical.event.output import LineOutput
from otel_canonical.internal_errors import report_caught
from otel_canonical.pool.counters import DROPPED, SHORTENED, Counts, no_counts
from otel_canonical.pool.slots import Slot
from otel_canonical.process.identity import own
from otel_canonical.settings import Settings, variable_of

Encode = Callable[[Iterable[tuple[str, FieldValue]]], str]
ENCODERS: dict[str, Encode] = {"logfmt": logfmt.encode, "json": json_lines.encode}


class LineWriter:
    """Encodes events and writes each as one line of at most `max_bytes` bytes.

    Args:
        output: takes the lines.
        format_: one of `ENCODERS`.
        max_bytes: of a line, newline included.
        counts: where lines are counted, `counters.COUNTS`; a worker has its own on the scoreboard.
        fields: those of a line, if the operator has chosen some; see `LineFields`.
    """

    def __init__(
        self,
        output: LineOutput,
        format_: str,
        max_bytes: int,
        counts: Counts | None = None,
        fields: Sequence[str] = (),
    ) -> None:
        self.output = output
        self._encode = ENCODERS[format_]
        self._fields = LineFields(fields) if fields else None
        self._is_plain = format_ == "logfmt" and self._fields is None
        self._max_bytes = max_bytes
        self.counts = counts if counts is not None else no_counts()

    def emit(self, event: CanonicalEvent) -> None:
        """Write the event's line."""
        self.write(event, self.encode(event))

    def encode(self, event: CanonicalEvent) -> bytes:
        """Return the event's line, shortened if it is too long."""
        try:
            text = event.as_logfmt() if self._is_plain else self._encode(self._pairs(event))
        except Exception as error:  # noqa: BLE001  # guarded, see `report_caught`
            # A value of a type that a row's quick way can't write.
            report_caught("encoding an event", error)
            text = self._encode(self._pairs(event))
        try:
            line = (text + "\n").encode()
        except UnicodeEncodeError:
            # A key or a checked text with half a character.
            line = (text + "\n").encode("utf-8", "replace")
        if len(line) > self._max_bytes:
            line, shortened = line_length.fit(
                self._pairs(event), self._encode, self._max_bytes, PROTECTED
            )
            self.counts[SHORTENED] += shortened
        return line

    def _pairs(self, event: CanonicalEvent) -> Sequence[tuple[str, FieldValue]]:
        return event.pairs if self._fields is None else self._fields.chosen(event.pairs)

    def write(self, event: CanonicalEvent, line: bytes, slot: Slot | None = None) -> None:
        """Write a line and count it; in a fork of this process do nothing.

        Args:
            event: the event that the line shows.
            line: as `encode` has returned it.
            slot: of the request that the line ends.
        """
        if not own[0]:
            return
        # Nothing stands before the write that need not: an alarm of the app's in between costs the line.
        is_written = self.output.write(line, slot)
        counts = self.counts
        counts[event.event_type.number] += 1
        if not is_written:
            counts[DROPPED] += 1


def open_line_writer(
    settings: Settings, cfg: Any, counts: Counts, warn: Callable[[str], None]
) -> LineWriter:
    """Open the output that the operator wants; warn and use the default if it can't be opened.

    Args:
        settings: the operator's choice.
        cfg: Gunicorn's configuration.
        counts: where lines are counted.
        warn: told what is wrong with a setting.
    """
    owner = (cfg.uid, cfg.gid) if os.geteuid() == 0 else None
    variable = variable_of("output")
    try:
        output = LineOutput(settings.output, owner)
    except OSError as error:
        default = Settings().output
        warn(
            f"{variable}={settings.output!r} can't be opened "
            f"({error.strerror}); using the default, {default}"
        )
        output = LineOutput(default, owner)
        output.is_substitute = True
    named = output.target if output.is_substitute else settings.output
    if output.is_closed():
        warn(
            f"{variable}={named!r} was closed when the server was started, so lines are "
            "written nowhere; set it to the path of a file"
        )
    elif cfg.daemon and output.is_null():
        warn(
            f"{variable}={output.target!r} is {os.devnull} in a daemon, so "
            "nobody will read the lines; set it to the path of a file"
        )
    return LineWriter(output, settings.format, settings.max_line, counts, settings.fields)
