"""Replaces the values that were written into an SQL statement. Pure.

Parameters (`%s`, `?`, `$1`) are no values and stay. Texts in double quotes are names in standard SQL, and
stay; in MySQL they are values as a rule, so there they go, and elsewhere if they hold what no name would.
"""

from __future__ import annotations

import functools
import re

_PLACEHOLDER = "?"

_PATTERN = r"""
    '(?:[^'\\]|''|\\[^'])*(?:'|\\'.*|$)     # a text, also one that was cut; databases differ in whether \'
                                            # ends one, so what follows may be one, too
    | \$(\w*)\$ .*? (?:\$\1\$|$)              # PostgreSQL's dollar quotes
    | {in_double_quotes}
    | (?<![\w.$%:@?]) \d[\w.]*                 # a number
"""
_FLAGS = re.VERBOSE | re.DOTALL
_LITERALS = re.compile(_PATTERN.format(in_double_quotes=r'"([^"\n]*)(?:"|$)'), _FLAGS)
_MYSQL_LITERALS = re.compile(
    _PATTERN.format(in_double_quotes=r'"(?:[^"\\]|""|\\[^"])*(?:"|\\".*|$)'), _FLAGS
)
_is_no_name = re.compile(r"[^\w.$ -]").search
_is_quoted_name = re.compile(r'"\."').search
_may_hold_literal = re.compile(r"['\"$]|(?<![\w.$%:@?])\d").search

_is_mysql_in_use: list[bool] = []


def note_mysql() -> None:
    """Take texts in double quotes for values from now on, unless they are certainly names."""
    if not _is_mysql_in_use:
        _is_mysql_in_use.append(True)
        without_literals.cache_clear()


def quotes_names(sql: str) -> bool:
    """Return whether what stands in double quotes are names."""
    return not _is_mysql_in_use or _is_quoted_name(sql) is not None


@functools.lru_cache(maxsize=1024)
def without_literals(sql: str) -> str:
    """Return a statement with `?` in the place of each value."""
    if not _may_hold_literal(sql):
        return sql
    if quotes_names(sql):
        return _LITERALS.sub(_shown, sql)
    return _MYSQL_LITERALS.sub(_PLACEHOLDER, sql)


def _shown(literal: re.Match[str]) -> str:
    quoted = literal[2]
    return _PLACEHOLDER if quoted is None or _is_no_name(quoted) else literal[0]
