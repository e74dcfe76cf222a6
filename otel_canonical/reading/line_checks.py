"""What must hold for one line by itself: whole, of the right types, sane. Pure."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from datetime import datetime

from otel_canonical.event.fields import FIELDS
from otel_canonical.reading.columns import COLUMNS, family_type
from otel_canonical.reading.filters import number
from otel_canonical.reading.recognise import LOGFMT_STARTS, Fields, is_torn

ENDINGS = ("request", "timeout", "lost")
TYPES = (*ENDINGS, "slow", "partial_failure", "pool")

#: What each kind of fault means, said once above its lines.
TORN = "torn: a piece of a line, or two lines that became one"
UNKNOWN = "an event_type that there isn't"
INCOMPLETE = "a key is missing that every such line has"
NO_NUMBER = "a value isn't of its key's type"
NOT_SANE = "a duration or a count can't be true"
NO_SUM = "the places of a request's time don't add up to it"

_PAIR = (
    r'[A-Za-z0-9_.]+=(?:"(?:[^"\\\x00-\x1f]|\\(?:["\\nrtbf/]|u[0-9a-fA-F]{4}))*"|[^\x00-\x20"\\=]*)'
)
_WHOLE = re.compile(rf"{_PAIR}(?: {_PAIR})*").fullmatch
_KEY = re.compile(r'(?:^| )([A-Za-z0-9_.]+)=(?:"(?:[^"\\]|\\.)*")?')

_NEEDED = {
    **dict.fromkeys(ENDINGS, ("req_id", "resp_time")),
    "slow": ("req_id", "resp_time"),
    "partial_failure": ("req_id", "exc_type"),
}
#: What adds up to `resp_time`, and how exactly; `<system>_time` besides.
_PLACES = (
    *("mw_time", "view_time", "tpl_self_time", "body_time", "resp_other_time"),
    *("db_time", "db_fetch_time", "db_connect_time", "db_txn_time", "cache_time", "http_time"),
)
_STATES = ("resp_cpu_time", "resp_cpu_wait", "resp_blocked")
_SUM_SHARE = 0.02
_SUM_S = 0.001
#: Clocks of threads and of walls are read one after the other, and are not the same clock.
_CLOCKS_SHARE = 0.05
_CLOCKS_S = 0.02
_LONGEST_S = 10 * 86400.0
_SECONDS = frozenset(field.key for field in FIELDS if field.unit == "s")
_LIMITS = (
    *(("g_w_active", "g_w_count"), ("g_t_active", "g_t_count"), ("db_dup_queries", "db_queries")),
    *(("db_n1_count", "db_queries"), ("db_dup_time", "db_time"), ("db_n1_time", "db_time")),
)
_STATUSES = range(100, 600)

Fault = tuple[str, str]


def torn(text: str) -> str:
    """Return how a line that begins as one of ours, or holds a piece of one, is torn; empty if not."""
    if text.startswith(LOGFMT_STARTS):
        if not _WHOLE(text):
            return "not logfmt as it is written"
        keys = _KEY.findall(text)
        if len(set(keys)) < len(keys):
            return "a key twice"
        return ""
    if text.startswith("{"):
        try:
            json.loads(text)
        except (ValueError, RecursionError):
            return "no JSON" if '"event_type"' in text else ""
        return ""
    return "a line within another one" if is_torn(text) else ""


def faults(fields: Fields) -> Iterator[Fault]:
    """Yield the kind of each fault of a line, and what exactly it is."""
    kind = str(fields["event_type"])
    if kind not in TYPES:
        yield UNKNOWN, kind
        return
    if moment(fields) is None:
        yield NO_NUMBER, f"ts={fields['ts']}"
    for key in _NEEDED.get(kind, ()):
        if key not in fields:
            yield INCOMPLETE, key
    for key, value in fields.items():
        if not _is_of_type(key, value):
            yield NO_NUMBER, f"{key}={value}"
    yield from _insane(fields)
    yield from _sums(kind, fields)


def moment(fields: Fields) -> float | None:
    """Return when a line was written, in seconds; None if that can't be read."""
    text = str(fields["ts"])
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
    except ValueError:
        return None


def _is_of_type(key: str, value: object) -> bool:
    text = str(value)
    check = _CHECKS.get(COLUMNS.get(key) or family_type(key) or "")
    return check is None or check(text)


def _is_float(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


_CHECKS: dict[str, Callable[[str], bool]] = {
    "BIGINT": lambda text: text.removeprefix("-").isdecimal(),
    "DOUBLE": _is_float,
    "BOOLEAN": lambda text: text.lower() in ("true", "false"),
}


def _insane(fields: Fields) -> Iterator[Fault]:
    for key in fields:
        value = number(fields, key)
        if value is None:
            continue
        is_time = key in _SECONDS or COLUMNS.get(key) == "DOUBLE"
        is_ours = is_time or COLUMNS.get(key) == "BIGINT"
        if (value < 0 and is_ours) or (is_time and value > _LONGEST_S):
            yield NOT_SANE, f"{key}={fields[key]}"
    for part, whole in _LIMITS:
        less, more = number(fields, part), number(fields, whole)
        if less is not None and more is not None and less > more + 1e-3:
            yield NOT_SANE, f"{part}={fields[part]} {whole}={fields[whole]}"
    elapsed = number(fields, "resp_time")
    if elapsed is not None:
        slack = _CLOCKS_SHARE * elapsed + _CLOCKS_S
        for key in ("resp_ttfb", "resp_cpu_time", "db_time", "timeout_seen"):
            measured = number(fields, key)
            if measured is not None and measured > elapsed + slack:
                yield NOT_SANE, f"{key}={fields[key]} resp_time={fields['resp_time']}"
    status = number(fields, "resp_status")
    if status is not None and status not in _STATUSES:
        yield NOT_SANE, f"resp_status={fields['resp_status']}"


def _sums(kind: str, fields: Fields) -> Iterator[Fault]:
    elapsed = number(fields, "resp_time")
    if kind != "request" or elapsed is None:
        return
    if "resp_other_time" in fields:
        systems = [
            key
            for key in fields
            if key.endswith("_time") and key not in COLUMNS and not key.startswith("app_")
        ]
        together = sum(number(fields, key) or 0.0 for key in (*_PLACES, *systems))
        if abs(together - elapsed) > max(_SUM_SHARE * elapsed, _SUM_S):
            yield NO_SUM, f"{together:.6f} of resp_time={fields['resp_time']}"
    states = [number(fields, key) for key in _STATES]
    if all(state is not None for state in states):
        together = sum(state or 0.0 for state in states)
        if abs(together - elapsed) > _CLOCKS_SHARE * elapsed + _CLOCKS_S:
            yield NO_SUM, f"states {together:.6f} of resp_time={fields['resp_time']}"
