"""Replaces the values that were written into an SQL statement. Pure.

Parameters (`%s`, `?`, `$1`) are no values and stay. Texts in double quotes are names in standard SQL, and
stay; in MySQL they may be values, so those that hold what no name would go as well.
"""

from __future__ import annotations

import functools
import re

_LITERALS = re.compile(
    r"""
    '(?:[^'\\]|''|\\.)*(?:'|$)              # a text, also one that was cut
    | \$(\w*)\$ .*? (?:\$\1\$|$)              # PostgreSQL's dollar quotes
    | "([^"\n]*)(?:"|$)                      # in double quotes: a name, or no name
    | (?<![\w.$%:@?]) \d[\w.]*                 # a number
    """,
    re.VERBOSE | re.DOTALL,
)
_is_no_name = re.compile(r"[^\w.$ -]").search
_may_hold_literal = re.compile(r"['\"$]|(?<![\w.$%:@?])\d").search


@functools.lru_cache(maxsize=1024)
def without_literals(sql: str) -> str:
    """Return a statement with `?` in the place of each value."""
    return _LITERALS.sub(_shown, sql) if _may_hold_literal(sql) else sql


def _shown(literal: re.Match[str]) -> str:
    quoted = literal[2]
    return "?" if quoted is None or _is_no_name(quoted) else literal[0]
