"""Which fields an event of each type may have, in which order, of which types. Pure.

`fields` says what each key means; this says what a well-formed event is. Our tests hold every event that
they make against it, and the JSON Schema in the documentation is made from it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise

from otel_canonical.event.event import EventType
from otel_canonical.event.field_description import FieldDescription
from otel_canonical.event.fields import APP_PREFIX, FIELDS, PATTERNS, FieldValue

_ALL = frozenset(EventType)
_OF_REQUESTS = _ALL - {EventType.POOL}
_WHOLE = _OF_REQUESTS - {EventType.PARTIAL_FAILURE, EventType.SLOW_QUERY}

#: The event types that a field may be on, where that are not those of whole requests.
_ON: dict[str, frozenset[EventType]] = {
    **dict.fromkeys(("event_type", "ts", "truncated"), _ALL),
    **dict.fromkeys(("req_id", "trace_id", "span_id", "sampled"), _OF_REQUESTS),
    **dict.fromkeys(
        ("exc_type", "exc_msg", "exc_loc", "exc_cause_loc", "exc_template"),
        _OF_REQUESTS - {EventType.SLOW_QUERY},
    ),
    **dict.fromkeys(
        ("g_w_count", "g_w_active", "g_backlog", "g_t_count", "g_t_active", "g_t_waiting"),
        _WHOLE | {EventType.POOL},
    ),
    **dict.fromkeys(
        ("g_utilization", "g_w_started", "g_w_died_<cause>", "g_lines_<kind>"),
        frozenset((EventType.POOL,)),
    ),
    **dict.fromkeys(
        ("db_query", "db_query_time", "db_query_loc", "db_alias", "db_plan"),
        frozenset((EventType.SLOW_QUERY,)),
    ),
    "deadline_exceeded": frozenset((EventType.REQUEST,)),
    "slow_stack": frozenset((EventType.SLOW,)),
    **dict.fromkeys(("lost_cause", "lost_loc", "lost_cause_loc"), frozenset((EventType.LOST,))),
}

#: Behind which field the keys of a family stand.
_BEHIND = {
    **dict.fromkeys(("<system>_calls", "<system>_time", "<system>_errors"), "http_errors"),
    **dict.fromkeys(("app_<key>", "app_<key>_time", "app_<key>_count"), "cache_time"),
    **dict.fromkeys(("g_w_died_<cause>", "g_lines_<kind>"), "g_w_started"),
}

_KNOWN = {field.key: field for field in FIELDS}
_PLACES = {field.key: float(place) for place, field in enumerate(FIELDS)}

#: The value of a key is of one of these types of Python's.
_TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (float, int),
    "bool": (bool,),
    "any": (str, int, float, bool),
}

#: How a value of a type is written on a line of logfmt.
_SPELLINGS = {
    "int": re.compile(r"-?\d+").fullmatch,
    "float": re.compile(r"-?\d+(?:\.\d+)?").fullmatch,
    "bool": re.compile(r"true|false").fullmatch,
}


def description_of(key: str) -> FieldDescription | None:
    """Return the description of a key or of its family; None if there is no such key."""
    known = _KNOWN.get(key)
    if known is not None:
        return known
    for family in PATTERNS:
        if re.fullmatch(pattern_of(family), key):
            return family
    return None


def pattern_of(family: FieldDescription) -> str:
    """Return a regular expression that the keys of a family match."""
    if family.key.startswith(APP_PREFIX):
        return r"app_[A-Za-z0-9_.]*"
    if family.key.startswith("<system>"):
        return r"(?!app_|g_)[a-z0-9_]+" + family.key.removeprefix("<system>")
    return family.key.partition("<")[0] + r"[A-Za-z0-9_.]+"


def types_of(field: FieldDescription) -> frozenset[EventType]:
    """Return the types of event that a field may be on."""
    return _ON.get(field.key, _WHOLE)


def faults(event_type: EventType, pairs: Iterable[tuple[str, FieldValue]]) -> Iterator[str]:
    """Yield what is wrong with the fields of an event, as values or as their texts on a line."""
    keys = []
    for key, value in pairs:
        keys.append(key)
        field = description_of(key)
        if field is None:
            yield f"{key}: no such key"
            continue
        if event_type not in types_of(field):
            yield f"{key}: not on a `{event_type.value}`"
        if not _is_of_type(field, value):
            yield f"{key}={value!r}: not of type {field.type}"
        elif field.unit == "s" and not float(value) >= 0:
            yield f"{key}={value!r}: no duration"
    if keys[:2] != ["ts", "event_type"]:
        yield "the first keys are not ts and event_type"
    for key in sorted({key for key in keys if keys.count(key) > 1}):
        yield f"{key}: twice"
    for before, behind in pairwise(keys):
        if _place(before) > _place(behind):
            yield f"{behind}: behind {before}"


def _is_of_type(field: FieldDescription, value: FieldValue) -> bool:
    if field.type in ("int", "float") and isinstance(value, bool):
        return False
    spelling = _SPELLINGS.get(field.type)
    if spelling is not None and isinstance(value, str):
        return spelling(value) is not None
    return isinstance(value, _TYPES[field.type])


def _place(key: str) -> float:
    field = description_of(key)
    if field is None:
        return 0.0
    family = _BEHIND.get(field.key)
    return _PLACES[family] + 0.5 if family is not None else _PLACES[field.key]


def json_schema() -> dict[str, object]:
    """Return the JSON Schema of a line in the format `json`."""
    conditions = [
        {
            "if": {"properties": {"event_type": {"const": event_type.value}}},
            "then": {
                "properties": {
                    field.key: False for field in FIELDS if event_type not in types_of(field)
                }
            },
        }
        for event_type in EventType
    ]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A canonical line",
        "description": "One line of otel-canonical in the format `json`; keys are in this order.",
        "type": "object",
        "properties": {
            field.key: {
                **_described(field),
                **({"enum": [one.value for one in EventType]} if field.key == "event_type" else {}),
            }
            for field in FIELDS
        },
        "patternProperties": {
            f"^{pattern_of(family)}$": _described(family)
            for family in PATTERNS
            if family.type != "any"
            and not family.key.startswith(APP_PREFIX)  # the app's values may be of any type
        }
        | {f"^{pattern_of(_APPS)}$": {"type": ["string", "number", "boolean"]}},
        "required": ["event_type", "ts"],
        "additionalProperties": False,
        "allOf": conditions,
    }


_APPS = next(family for family in PATTERNS if family.key == "app_<key>")
_JSON_TYPES = {"str": "string", "int": "integer", "float": "number", "bool": "boolean"}


def _described(field: FieldDescription) -> Mapping[str, object]:
    described: dict[str, object] = {
        "type": _JSON_TYPES[field.type],
        "description": f"{field.meaning} ({field.unit})" if field.unit else field.meaning,
    }
    if field.unit == "s":
        described["minimum"] = 0
    return described
