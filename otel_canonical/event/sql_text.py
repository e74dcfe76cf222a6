"""SQL as lines and spans show it: literals replaced, white space folded, shortened. Pure.

What a database is asked for is often personal, and it stands in literals; so these never leave.
`normalized` runs once per event, for a few texts that are worth showing, and remembers what it has made
of them. `shown_sql` runs in the request, before each query whose text is new to the scoreboard: it costs
less, knows comments as any other text, and returns no more than the scoreboard has room for.
"""

from __future__ import annotations

import functools
import importlib
import re
from typing import Any

from otel_canonical.event import sql_literals
from otel_canonical.event.sql_literals import without_literals

#: The most bytes of a text on a line, and elsewhere.
LINE_BYTES, SPAN_BYTES = 300, 2000

#: What is shown in the place of a literal.
PLACEHOLDER = "?"

#: Longer texts are cut before they are read.
LONGEST_READ = 8000

CUT = "..."

#: `IN (%s, %s, %s)` is shown as `IN (%s, ...)`.
_LISTS = re.compile(r"\(\s*(\?|%s|:\w+|%\(\w+\)s)(?:\s*,\s*(?:\?|%s|:\w+|%\(\w+\)s))+\s*\)")
#: The most characters of a text that `shown_sql` looks at.
LONGEST_SQL = 2000


def note_mysql() -> None:
    """Take texts in double quotes for literals from now on, unless they are certainly identifiers."""
    sql_literals.note_mysql()
    normalized.cache_clear()
    line_text.cache_clear()


@functools.lru_cache(maxsize=512)
def normalized(text: str) -> str:
    """Return a text without literals and comments, white space folded, of at most `SPAN_BYTES`.

    Without sqlparse, which Django brings, nothing is returned: a literal must not be shown by mistake.
    """
    lexer = _lexer()
    if lexer is None:
        return ""
    is_cut = len(text) > LONGEST_READ
    quotes_names = sql_literals.quotes_names(text)
    parts: list[str] = []
    for kind, value in lexer(text[:LONGEST_READ]):
        name = str(kind)
        if "\\'" in value:
            # Databases differ in whether that ends a literal, so what follows may be one.
            parts.append(PLACEHOLDER + CUT)
            break
        if name.startswith("Token.Literal"):
            if name.endswith("Symbol") and quotes_names:
                parts.append(value)
            else:
                parts.append(PLACEHOLDER)
        elif name.startswith("Token.Comment"):
            parts.append(" ")
        elif name == "Token.Error" or (value.startswith("'") and len(value) > 1):
            # A quote that is never closed, as in a text that was cut: what follows may be a literal.
            parts.append(PLACEHOLDER)
            break
        else:
            parts.append(value)
    folded = " ".join("".join(parts).split())
    folded = _LISTS.sub(rf"(\1, {CUT})", folded)
    return shortened(folded + CUT if is_cut else folded, SPAN_BYTES)


@functools.lru_cache(maxsize=512)
def line_text(text: str) -> str:
    """Return a text as `normalized` does, of at most `LINE_BYTES`."""
    return shortened(normalized(text), LINE_BYTES)


def shown_sql(text: str) -> str:
    """Return the beginning of a statement without the values that were written into it."""
    return " ".join(without_literals(text[:LONGEST_SQL]).split())


def shortened(text: str, most_bytes: int) -> str:
    """Return a text of at most so many bytes; what was cut ends in three dots."""
    encoded = text.encode("utf-8", "replace")
    if len(encoded) <= most_bytes:
        return text
    return encoded[: most_bytes - len(CUT)].decode("utf-8", "ignore") + CUT


@functools.cache
def _lexer() -> Any:
    try:
        return importlib.import_module("sqlparse.lexer").tokenize
    except ImportError:
        return None
