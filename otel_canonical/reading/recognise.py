"""Tells our lines from foreign ones, and reads them one at a time: logfmt or JSON, with any prefix.

Exact and slow; `json_batches` reads many lines at once and comes here with what is unusual.
"""

from __future__ import annotations

import json
import re

from otel_canonical.event.fields import FieldValue
from otel_canonical.event.logfmt import parse

Fields = dict[str, FieldValue]

#: How lines begin, in this and in the former order of keys.
LOGFMT_STARTS = ("ts=", "event_type=")
_KEYS = frozenset(("ts", "event_type"))

#: What log collectors write in front of a line; several may have had a turn.
_PREFIX = re.compile(
    r"""(?:
      [\w./-]+\s*\|\s+                                  # docker compose: `shop-1  | `
    | \[pod/[^\]\s]+\]\s+                               # kubectl logs --prefix
    | \d{4}-\d\d-\d\dT[\d:.,]+(?:Z|[+-]\d\d:?\d\d)\s+   # docker logs -t, kubectl --timestamps
    | (?:stdout|stderr)\ [FP]\s+                        # the container runtime's files (CRI)
    | [A-Z][a-z]{2}\s+\d+\ [\d:]{8}\ \S+\ [^\s:]+:\s+   # syslog, journalctl
    )+(?=ts=|event_type=|\{)""",
    re.VERBOSE,
)
#: The start of one of our lines behind something else: two writes that became one line.
_INSIDE = re.compile(r"(?:ts=\S+ event_type=[a-z_]+ |event_type=[a-z_]+ ts=\S+ )")
#: Keys that only our lines have: a piece of one, without its head.
_FRAGMENT = re.compile(r"(?:^|\s)(?:resp_time|resp_cpu_time|g_w_count|g_pid)=\d")


def fields_of(text: str) -> Fields | None:
    """Return the fields of a line; None if it is none of ours."""
    if not text.startswith((*LOGFMT_STARTS, "{")):
        found = _PREFIX.match(text)
        if found is None:
            return None
        text = text[found.end() :]
    if text.startswith("{"):
        return _of_json(text)
    fields: Fields = {**parse(text)}
    return fields if fields.keys() >= _KEYS else None


def is_torn(text: str) -> bool:
    """Return whether a line that is none of ours has a piece of one in it."""
    return bool(_INSIDE.search(text) or _FRAGMENT.search(text))


def _of_json(text: str) -> Fields | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    if found.keys() >= _KEYS:
        return {
            key: value if isinstance(value, (str, int, float)) else json.dumps(value)
            for key, value in found.items()
            if value is not None
        }
    log = found.get("log")  # Docker's json-file: the line is a value of its own object
    if isinstance(log, str) and not log.startswith('{"log"'):
        return fields_of(log.rstrip("\r\n"))
    return None
