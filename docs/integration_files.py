"""Makes the files for tools of others, in integrations/, from the fields of the event. Used by `generate.py`."""

from __future__ import annotations

import json
from collections.abc import Callable

from otel_canonical.event import fields

MADE = "written by `make docs` from otel_canonical/event/fields.py"
FIELDS = [field for field in fields.FIELDS if field.key != "ts"]

_LNAV = {"str": "string", "int": "integer", "float": "float", "bool": "boolean"}
_DUCKDB = {"str": "VARCHAR", "int": "BIGINT", "float": "DOUBLE", "bool": "BOOLEAN"}
_CLICKHOUSE = {"str": "String", "int": "Int64", "float": "Float64", "bool": "Bool"}
_FROM_TEXT = {
    "str": "nullIf({}, '')",
    "int": "toInt64OrNull({})",
    "float": "toFloat64OrNull({})",
    "bool": "if({0} = '', NULL, {0} = 'true')",
}
#: What stands for the span's own ids in the table of the Collector's exporter.
_OWN_COLUMNS = {
    "trace_id": "nullIf(TraceId, '')",
    "span_id": "nullIf(SpanId, '')",
    "sampled": "CAST(TraceFlags, 'Nullable(UInt8)') = 1",
}
#: Keys that may be the last of a line.
_LAST = ("req_id", "sampled", "truncated")
#: Shown in one row of lnav; everything else is one key press away (`p`).
_LNAV_ROW = ("resp_status", "req_method", "req_path", "resp_time", "exc_type", "exc_cause_loc")


def keys_of(*types: str) -> list[str]:
    """Return the keys whose values have such a type."""
    return [field.key for field in FIELDS if field.type in types]


def lnav_format() -> str:
    """Return lnav's format of the lines in JSON; it knows logfmt by itself."""
    row: list[object] = [{"field": "__timestamp__", "timestamp-format": "%H:%M:%S.%L"}]
    for key in _LNAV_ROW:
        row += [" ", {"field": key, "default-value": ""}]
    found = {
        "$schema": "https://lnav.org/schemas/format-v1.schema.json",
        "otel_canonical": {
            "title": "otel-canonical",
            "description": "One line for each request that Gunicorn accepts, as JSON",
            "file-type": "json",
            "timestamp-field": "ts",
            "level-field": "event_type",
            "level": {
                "error": "^(timeout|lost)$",
                "warning": "^(slow|slow_query|partial_failure)$",
            },
            "opid-field": "req_id",
            "hide-extra": True,
            "line-format": row,
            "value": {
                field.key: {
                    "kind": _LNAV[field.type],
                    "identifier": field.key in ("req_route", "req_id", "event_type"),
                    "hidden": field.key not in _LNAV_ROW,
                    "description": field.meaning,
                }
                for field in FIELDS
            },
        },
    }
    return json.dumps(found, indent=2, ensure_ascii=False) + "\n"


def lnav_view(source: str, column: str, last_column: str) -> str:
    """Return lnav's statement that makes the view `events`.

    Args:
        source: lnav's table of the lines.
        column: the expression for a key.
        last_column: the same for a key that may be the last of a line.
    """
    columns = [
        f"    {(last_column if field.key in _LAST else column).format(field.key)} AS {field.key}"
        for field in FIELDS
    ]
    rows = ",\n".join(["    log_time AS ts", *columns])
    return f"# {MADE}\n;CREATE VIEW events AS SELECT\n{rows}\nFROM {source}\n"


def duckdb_view() -> str:
    """Return the view `events` on a file of JSON lines."""
    columns = ",\n".join(
        f"        {field.key}: '{_DUCKDB[field.type]}'" for field in FIELDS if field.key != "ts"
    )
    return f"""-- {MADE}
CREATE OR REPLACE VIEW events AS
SELECT * FROM read_json(
    'lines.json', format = 'newline_delimited', ignore_errors = true,
    columns = {{
        ts: 'TIMESTAMPTZ',
{columns}
    }}
) WHERE event_type IS NOT NULL;
"""


def clickhouse_table() -> str:
    """Return the table `events`, for lines in JSON."""
    columns = ",\n".join(
        f"    {field.key} "
        + ("LowCardinality(String)" if field.key == "event_type" else "")
        + (f"Nullable({_CLICKHOUSE[field.type]})" if field.key != "event_type" else "")
        for field in FIELDS
    )
    return f"""-- {MADE}
CREATE TABLE events (
    ts DateTime64(3, 'UTC'),
{columns}
) ENGINE = MergeTree PARTITION BY toDate(ts) ORDER BY (event_type, ts);
"""


def clickhouse_view() -> str:
    """Return the view `events` on the table that the Collector's exporter makes."""
    columns = []
    for field in FIELDS:
        value = f"LogAttributes['{field.attribute}']"
        made = _OWN_COLUMNS.get(field.key) or _FROM_TEXT[field.type].format(value)
        columns.append(f"    {made} AS {field.key}")
    rows = ",\n".join(columns)
    return f"""-- {MADE}
CREATE VIEW events AS SELECT
    Timestamp AS ts,
{rows}
FROM otel_logs WHERE LogAttributes['canonical.event_type'] != '';
"""


def vector_types() -> str:
    """Return the statements of Vector that give values their types."""
    lines = []
    for types, function in (("int", "to_int"), ("float", "to_float"), ("bool", "to_bool")):
        keys = ", ".join(f'"{key}"' for key in keys_of(types))
        lines += [
            f"for_each([{keys}]) -> |_, key| {{",
            "  value = get(event, [key]) ?? null",
            f"  if value != null {{ event = set!(event, [key], {function}(value) ?? value) }}",
            "}",
        ]
    return "\n".join(f"        {line}" for line in lines)


def fluent_bit_parsers() -> str:
    """Return Fluent Bit's parsers of both formats."""
    types = " ".join(
        [
            *(f"{key}:integer" for key in keys_of("int")),
            *(f"{key}:float" for key in keys_of("float")),
            *(f"{key}:bool" for key in keys_of("bool")),
        ]
    )
    time = "    Time_Key    ts\n    Time_Format %Y-%m-%dT%H:%M:%S.%LZ\n    Time_Keep   On\n"
    return f"""# {MADE}
[PARSER]
    Name        otel_canonical_logfmt
    Format      logfmt
{time}    Types       {types}

[PARSER]
    Name        otel_canonical_json
    Format      json
{time}"""


#: Keys whose times don't overlap, as far as this version has them.
_PLACES = (
    *("mw_time", "view_time", "tpl_self_time", "body_time", "resp_other_time"),
    *("db_time", "db_fetch_time", "db_connect_time", "db_txn_time", "cache_time", "http_time"),
)
_PLACES_PANEL = "Time by place"


def dashboard(text: str) -> str:
    """Return the dashboard with one series for each place that a line knows."""
    found = json.loads(text)
    [panel] = [panel for panel in found["panels"] if panel["title"] == _PLACES_PANEL]
    attributes = {field.key: field.attribute.replace(".", "_") for field in FIELDS}
    events = '{service_name=~"$service"} | canonical_event_type="request" | http_route=~"$route"'
    panel["targets"] = [
        {
            "datasource": panel["datasource"],
            "refId": chr(ord("A") + number),
            "editorMode": "code",
            "expr": f"sum(rate({events} | unwrap {attributes[key]} [$__auto]))",
            "legendFormat": key,
            "queryType": "range",
        }
        for number, key in enumerate(key for key in _PLACES if key in attributes)
    ]
    return json.dumps(found, indent=1, ensure_ascii=False) + "\n"


#: Files that are made as a whole.
FILES: dict[str, Callable[[], str]] = {
    "integrations/lnav/otel_canonical.json": lnav_format,
    "integrations/lnav/events-logfmt.lnav": lambda: lnav_view(
        "logfmt_log",
        "json_extract(fields, '$.{}')",
        # lnav takes a foreign line for more of the line before it, and so of its last value.
        "substr(json_extract(fields, '$.{0}') || char(10), 1,"
        " instr(json_extract(fields, '$.{0}') || char(10), char(10)) - 1)",
    ),
    # lnav 0.13 counts a foreign line as the event before it where it filters rows by a column itself. The
    # sign leaves that to SQLite.
    "integrations/lnav/events-json.lnav": lambda: lnav_view("otel_canonical", "+{}", "+{}"),
    "integrations/duckdb/events.sql": duckdb_view,
    "integrations/clickhouse/events.sql": clickhouse_table,
    "integrations/clickhouse/events-of-collector.sql": clickhouse_view,
    "integrations/fluent-bit/parsers.conf": fluent_bit_parsers,
}
