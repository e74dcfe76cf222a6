"""The lines that the server writes, and which of them belongs to which request."""

from __future__ import annotations

import re
import threading
from typing import IO

from tour.visitor import Sent

PAIR = re.compile(r'([A-Za-z0-9_.]+)=("(?:[^"\\]|\\.)*"|[^ "]*)(?: |$)')
ENDINGS = ("request", "timeout", "lost")  # each request has exactly one line of these
LINES_S = 15.0
EOF_S = 5.0


class Lines:
    """What the server writes to stdout, as it comes."""

    def __init__(self, stdout: IO[bytes]) -> None:
        self.all: list[str] = []
        self._stdout = stdout
        self._changed = threading.Condition()  # guards all
        self._thread = threading.Thread(target=self._read, name="canonical-lines", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        for raw in self._stdout:
            with self._changed:
                self.all.append(raw.decode("utf-8", "backslashreplace").rstrip("\n"))
                self._changed.notify_all()

    def wait_for_endings(self, count: int) -> None:
        """Return when so many requests have their line, or when the deadline has passed."""
        with self._changed:
            self._changed.wait_for(lambda: len(endings(self.all)) >= count, LINES_S)

    def close(self) -> list[str]:
        """Return every line, the last one included; the server must have stopped."""
        self._thread.join(EOF_S)
        return list(self.all)


def value_of(key: str, line: str) -> str | None:
    """Return the value of a key as it stands on the line, quotes included."""
    return next((value for found, value in PAIR.findall(line) if found == key), None)


def endings(lines: list[str]) -> list[str]:
    """Return the lines that end a request, which are one for each."""
    return [line for line in lines if value_of("event_type", line) in ENDINGS]


def match(sent: list[Sent], lines: list[str]) -> list[str]:
    """Give every request its lines, by id and else by order; return those that nobody claims."""
    by_id: dict[str | None, Sent] = {one.req_id: one for one in sent if one.req_id}
    unclaimed = []
    for line in lines:
        if one := by_id.get(value_of("req_id", line)):
            one.lines.append(line)
        else:
            unclaimed.append(line)
    for one in sent:
        candidates = endings(unclaimed)
        if not endings(one.lines) and candidates:
            unclaimed.remove(candidates[0])
            one.lines.append(candidates[0])
    return unclaimed


def problems(sent: list[Sent], unclaimed: list[str]) -> list[str]:
    """Return a sentence for everything that is not as promised."""
    found = []
    for number, one in enumerate(sent, 1):
        ended = endings(one.lines)
        if one.status != one.expected:
            found.append(f"request {number} was answered {one.status}, not {one.expected}")
        if len(ended) != 1:
            found.append(f"request {number} has {len(ended)} lines, not 1")
        elif value_of("resp_status", ended[0]) != str(one.status):
            found.append(f"request {number} got {one.status}, its line says otherwise")
    return found + [f"on stdout, but of no request: {line!r}" for line in unclaimed]
