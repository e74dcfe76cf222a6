"""What the rows wrote on stdout, counted: a row that skips its work must not look cheap."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from rows import Evidence, Row

PAIR = re.compile(r'(?:^| )([\w.]+)=("(?:\\.|[^"\\])*"|[^ "]*)')
ACCESS = re.compile(r'"GET (\S+) HTTP/1\.1" (\d+) ')
QUERIES_OF = {"/queries/10/": "10"}


class EvidenceError(Exception):
    """A row did not write what it owes for each request."""


def check_lines(row: Row, home: Path, sent: dict[str, int]) -> None:
    """Fail unless the row wrote exactly one right line for every request that was sent."""
    if row.evidence is Evidence.NONE:
        return
    read_line = READERS[row.evidence]
    counted: Counter[str] = Counter()
    for line in (home / "stdout.log").read_text(errors="replace").splitlines():
        try:
            path = read_line(line)
        except (ValueError, KeyError) as error:
            raise EvidenceError(_explain(row, home, f"{error!r} in the line {line!r}")) from error
        if path:
            counted[path] += 1
    if counted != sent:
        counts = f"{row.evidence.value} is owed for {sent}, but it wrote {dict(counted)}"
        raise EvidenceError(_explain(row, home, counts))


def _explain(row: Row, home: Path, problem: str) -> str:
    log = (home / "stderr.log").read_text(errors="replace")
    return f"{row.name}: {problem}; the end of its log:\n{log[-4000:]}"


def _read_canonical(line: str) -> str:
    fields: dict[str, str] = {key: value.strip('"') for key, value in PAIR.findall(line)}
    _expect("event_type", fields["event_type"], "request")
    _expect("resp_status", fields["resp_status"], "200")
    path = fields["req_path"]
    _expect("db_queries", fields.get("db_queries", "0"), QUERIES_OF.get(path, "0"))
    return path


def _read_access(line: str) -> str:
    found = ACCESS.search(line)
    if found is None:
        raise ValueError("not an access log line")
    _expect("status", found[2], "200")
    return found[1]


def _read_structlog(line: str) -> str:
    event = json.loads(line)
    if event["event"] != "request_finished":
        return ""
    _expect("code", str(event["code"]), "200")
    return str(event["request"]).removeprefix("GET ")


def _expect(name: str, value: str, wanted: str) -> None:
    if value != wanted:
        raise ValueError(f"{name} is {value}, not {wanted}")


READERS: dict[Evidence, Callable[[str], str]] = {
    Evidence.ACCESS_LINE: _read_access,
    Evidence.CANONICAL_LINE: _read_canonical,
    Evidence.ANCESTOR_LINE: _read_canonical,
    Evidence.STRUCTLOG_LINE: _read_structlog,
}
