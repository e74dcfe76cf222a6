"""SQL as it may be shown: its literals replaced, its white space folded, shortened. Pure."""

from __future__ import annotations

import re

#: No more of a statement is looked at.
LONGEST_SQL = 2000

#: Texts in single quotes (also one that was cut), dollar quotes, numbers. Names in double quotes stay.
_LITERALS = re.compile(
    r"""
    '(?:[^'\\]|''|\\.)*(?:'|$)
    | \$(?P<tag>\w*)\$ .*? (?:\$(?P=tag)\$|$)
    | (?<![\w.$%]) \d[\w.]*
    """,
    re.VERBOSE | re.DOTALL,
)


def shown_sql(sql: str) -> str:
    """Return a statement without the values that were written into it."""
    return " ".join(_LITERALS.sub("?", sql[:LONGEST_SQL]).split())
