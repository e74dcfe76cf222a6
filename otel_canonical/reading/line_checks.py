"""What must hold for one line by itself: whole, of the right types, sane. Pure."""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Iterator, Mapping
from datetime import datetime

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
    numbers: dict[str, float] = {}
    for key, value in fields.items():
        sql_type = _type_of(key)
        if sql_type in ("DOUBLE", "BIGINT"):
            measured = number(fields, key)
            if measured is None or not math.isfinite(measured):
                yield NO_NUMBER, f"{key}={value}"
                continue
            numbers[key] = measured
            is_time = sql_type == "DOUBLE"
            if (measured < 0 and key in COLUMNS) or (is_time and measured > _LONGEST_S):
                yield NOT_SANE, f"{key}={value}"
        if not _is_spelled(sql_type, str(value)):
            yield NO_NUMBER, f"{key}={value}"
    yield from _insane(fields, numbers)
    yield from _sums(kind, fields, numbers)


def moment(fields: Fields) -> float | None:
    """Return when a line was written, in seconds; None if that can't be read."""
    text = str(fields["ts"])
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
    except ValueError:
        return None


@functools.lru_cache(maxsize=1024)
def _type_of(key: str) -> str:
    """Return the type of a key's values; empty where they may be anything."""
    return COLUMNS.get(key) or family_type(key) or ""


def _is_spelled(sql_type: str, text: str) -> bool:
    if sql_type == "BIGINT":
        return text.removeprefix("-").isdecimal()
    return sql_type != "BOOLEAN" or text.lower() in ("true", "false")


def _insane(fields: Fields, numbers: Mapping[str, float]) -> Iterator[Fault]:
    for part, whole in _LIMITS:
        if part in numbers and whole in numbers and numbers[part] > numbers[whole] + 1e-3:
            yield NOT_SANE, f"{part}={fields[part]} {whole}={fields[whole]}"
    elapsed = numbers.get("resp_time")
    if elapsed is not None:
        longest = elapsed + _CLOCKS_SHARE * elapsed + _CLOCKS_S
        for key in ("resp_ttfb", "resp_cpu_time", "timeout_seen"):
            if numbers.get(key, 0.0) > longest:
                yield NOT_SANE, f"{key}={fields[key]} resp_time={fields['resp_time']}"
    if numbers.get("resp_status", _STATUSES[0]) not in _STATUSES:
        yield NOT_SANE, f"resp_status={fields['resp_status']}"


def _sums(kind: str, fields: Fields, numbers: Mapping[str, float]) -> Iterator[Fault]:
    elapsed = numbers.get("resp_time")
    if kind != "request" or elapsed is None:
        return
    if "resp_other_time" in numbers:
        systems = [
            key
            for key in numbers
            if key not in COLUMNS and key.endswith("_time") and not key.startswith("app_")
        ]
        together = sum([numbers.get(key, 0.0) for key in (*_PLACES, *systems)])
        together -= numbers.get("resp_overlap", 0.0)
        if abs(together - elapsed) > max(_SUM_SHARE * elapsed, _SUM_S):
            yield NO_SUM, f"{together:.6f} of resp_time={fields['resp_time']}"
    if all(key in numbers for key in _STATES):
        together = sum([numbers[key] for key in _STATES])
        if abs(together - elapsed) > _CLOCKS_SHARE * elapsed + _CLOCKS_S:
            yield NO_SUM, f"states {together:.6f} of resp_time={fields['resp_time']}"
