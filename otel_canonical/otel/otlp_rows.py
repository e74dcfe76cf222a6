"""Encodes events as OTLP's protobuf, row by row, without making their attributes first.

A function is generated for each row, as `event.rows` does for lines: names and types are known once, and a
loop that looks for them takes three times as many instructions.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, cast

from otel_canonical.event.bounds import ATTRIBUTE_OVERHEAD, limits
from otel_canonical.event.event import CanonicalEvent, app_and_others
from otel_canonical.event.fields import STACK_ATTRIBUTE
from otel_canonical.event.rows import LOOSE, PlainRow, Row, TextRow, Values
from otel_canonical.otel.otlp_values import before_text, key_values, name_of
from otel_canonical.otel.protobuf import SIZES, varint

#: Appends the `KeyValue` messages of a row, each with its size, by a list's `append`.
Write = Callable[[Values, Callable[[bytes], None]], None]

#: How a value is written, by the field's type, with its number for `#`.
_EXPRESSIONS = {
    "str": "(texts#.get(len(b := v#.encode())) or before_text(name#, len(b))) + b",
    "int": "ints#[len(b := sizes[v#] if 0 <= v# < 1024 else varint(v#))] + b",
    "float": "float# + double((v# + 500) // 1000 / 1e6)",
    "bool": "true# if v# == 'true' else false#",
}

_double = struct.Struct("<d").pack


def attributes_of(event: CanonicalEvent) -> list[bytes]:
    """Return the attributes of an event as `KeyValue` messages; made once for span and log record."""
    found = event.encoded
    if found is None:
        found = _by_rows(event)
        if sum(map(len, found), ATTRIBUTE_OVERHEAD * len(found)) > limits.event:
            # It may have to be shortened.
            found = key_values(event.attributes())
        event.encoded = found
    return found


def _by_rows(event: CanonicalEvent) -> list[bytes]:
    if event.has_attributes():
        # They were read before, by somebody else.
        return key_values(event.attributes())
    found: list[bytes] = []
    add = found.append
    for row, values in event.rows:
        write = _writers.get(row)
        if write is not None:
            write(values, add)
        elif isinstance(row, PlainRow | TextRow):
            _writers[row] = _writer_of(row)
            _writers[row](values, add)
        elif row is LOOSE:
            # In the order of `CanonicalEvent.attributes`: the first record is compared byte by byte.
            app, others = app_and_others(row.attributes(values))
            found[:0] = key_values(app)
            found += key_values(others)
        else:
            found += key_values(row.attributes(values))
    if event.stack:
        found += key_values({STACK_ATTRIBUTE: event.stack})
    return found


_writers: dict[Row, Write] = {}


def _writer_of(row: PlainRow | TextRow) -> Write:
    """Return the function that encodes the values of a row."""
    scope: dict[str, Any] = {
        "before_text": before_text,
        "key_values": key_values,
        "double": _double,
        "sizes": SIZES,
        "varint": varint,
    }
    names = row.attribute_names
    lines = [f"{', '.join(f'v{number}' for number in range(len(names)))}, = values"]
    for number, attribute in enumerate(names):
        if not attribute:
            continue  # the span itself has it
        name = name_of(attribute)
        known = {
            "name": name,
            "texts": name.before_text,
            "ints": name.before_int,
            "float": name.before_float,
            "true": name.true,
            "false": name.false,
        }
        scope |= {f"{key}{number}": value for key, value in known.items()}
        scope[f"attribute{number}"] = attribute
        if isinstance(row, TextRow):
            # Any of them may be absent, and of any type.
            lines += [
                "if type(v#) is str:",
                f"    add({_EXPRESSIONS['str']})",
                "elif v# is not None:",
                "    add(key_values({attribute#: v#})[0])",
            ]
        else:
            lines.append(f"add({_EXPRESSIONS[row.columns[number][1]]})")
        lines = [line.replace("#", str(number)) for line in lines]
    # Of the fields of this package's rows, and nothing else.
    exec("def write(values, add):\n" + "".join(f"    {line}\n" for line in lines), scope)
    return cast("Write", scope["write"])
