"""Turns chunks of lines into JSON objects, one a row, for DuckDB to read.

A million lines pass through here, so whole chunks are turned by `bytes.replace`: outside of quotes a
space parts two pairs and `=` a key from its value; inside, logfmt's escapes are those of JSON. Whatever
makes that untrue (a backslash outside of quotes, a stray quote, `=` in a bare value) either shows at
once or makes JSON that DuckDB refuses; then `careful` looks at each line. Measured: 0.35 s of CPU
for 32 MiB, where a regular expression in DuckDB took 1.5 s and one in Python 0.9 s.
"""

from __future__ import annotations

import json
import re
from typing import NamedTuple

from otel_canonical.event.logfmt import as_text
from otel_canonical.reading.recognise import LOGFMT_STARTS, Fields, fields_of

_STARTS = tuple(start.encode() for start in LOGFMT_STARTS)
_JSON_STARTS = (b'{"ts":"', b'{"event_type":"')

#: A line that `_turn` turns exactly. Escaped surrogates are left out: JSON must have both of a pair.
_STRICT = re.compile(
    rb"""
    [A-Za-z0-9_.]+= (?:%(quoted)s|%(bare)s) (?:[ ][A-Za-z0-9_.]+= (?:%(quoted)s|%(bare)s) )*
    """
    % {
        b"quoted": rb'"[^"\\\x00-\x1f]*(?:\\(?:["\\/bfnrt]|u(?:[0-9a-cA-Ce-fE-F][0-9a-fA-F]{3}'
        rb'|[dD][0-7][0-9a-fA-F]{2}))[^"\\\x00-\x1f]*)*"',
        b"bare": rb'[^\x00-\x20"\\=]*',
    },
    re.VERBOSE,
).fullmatch


class Batch(NamedTuple):
    """The lines of one chunk."""

    #: Rows of JSON, each with its newline.
    rows: bytes
    #: The same lines as they came, for `careful`.
    lines: list[bytes]
    #: Lines in the chunk that are none of ours.
    foreign: int


def batch(chunk: bytes) -> Batch:
    """Return a chunk's lines as rows of JSON; DuckDB may refuse some of them."""
    lines = chunk.split(b"\n")
    if not lines[-1]:
        lines.pop()
    if b"\r" in chunk:
        lines = [line.removesuffix(b"\r") for line in lines]
    logfmt = [line for line in lines if line.startswith(_STARTS)]
    found = logfmt
    rows = b""
    foreign = 0
    if len(logfmt) < len(lines):
        ready: list[bytes] = []
        for line in lines:
            if line.startswith(_STARTS):
                continue
            if line.startswith(_JSON_STARTS):
                ready.append(line)
            elif (fields := fields_of(line.decode("utf-8", "replace"))) is not None:
                ready.append(_dump(fields))
            else:
                foreign += 1
        found = logfmt + ready
        rows = b"\n".join(ready) + b"\n" if ready else b""
    if logfmt:
        turned = _turn_all(logfmt)
        rows += careful(logfmt) if turned is None else turned
    return Batch(rows, found, foreign)


def careful(lines: list[bytes]) -> bytes:
    """Return the lines as JSON that DuckDB reads, whatever is in them; a key may come twice."""
    return b"".join([_careful(line) + b"\n" for line in lines])


def parsed(lines: list[bytes]) -> bytes:
    """Return the lines as JSON, each read by the parser, which takes the last of equal keys."""
    return b"".join([_parsed(line) + b"\n" for line in lines])


def _turn_all(lines: list[bytes]) -> bytes | None:
    """Return the lines as JSON; None if one of them has a quote or a backslash where none can be."""
    plain: list[bytes] = []
    unusual: list[bytes] = []
    for line in lines:
        turned = line
        if b"\\" in line:
            if b"\\ud" in line or b"\\uD" in line:
                # JSON must have both surrogates of a pair.
                unusual.append(_careful(line))
                continue
            turned = _without_escaped_quotes(line)
        if turned.count(b'"') & 1:
            unusual.append(_careful(line))
        else:
            plain.append(turned)
    rows = _turn(plain) if plain else b""
    if rows is None:
        return None
    if unusual:
        rows += b"\n".join(unusual) + b"\n"
    return rows


def _turn(lines: list[bytes]) -> bytes | None:
    parts = b"\n".join(lines).split(b'"')
    outside = parts[::2]
    opens = all(part.endswith(b"=") for part in outside[:-1])
    closes = all(part.startswith((b" ", b"\n")) for part in outside[1:-1])
    if not opens or not closes or (len(outside) > 1 and outside[-1][:1] not in (b"", b" ", b"\n")):
        return None
    if b"\\" in b"".join(outside):
        return None
    parts[::2] = [
        part.replace(b"=", b'":"').replace(b" ", b'","').replace(b"\n", b'"}\n{"')
        for part in outside
    ]
    return b'{"' + b"".join(parts) + b'"}\n'


def _without_escaped_quotes(line: bytes) -> bytes:
    return line.replace(b"\\\\", b"\\u005c").replace(b'\\"', b"\\u0022")


def _careful(line: bytes) -> bytes:
    if _STRICT(line) and _is_utf8(line):
        turned = _turn([_without_escaped_quotes(line)])
        if turned is not None:
            return turned[:-1]
    return _parsed(line)


def _parsed(line: bytes) -> bytes:
    fields = fields_of(line.decode("utf-8", "replace"))
    return b"{}" if fields is None else _dump(fields)


def _dump(fields: Fields) -> bytes:
    # Both halves of what was cut apart are one character again; a half alone is U+FFFD.
    texts = {_whole(key): _whole(as_text(value)) for key, value in fields.items()}
    return json.dumps(texts, separators=(",", ":")).encode()


def _whole(text: str) -> str:
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _is_utf8(line: bytes) -> bool:
    if line.isascii():
        return True
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True
