"""Makes the function that writes a row of fields as text: one f-string, as if written by hand. Pure.

A loop over the fields takes twice as many instructions. Each field is an expression of that f-string, with
`%s` for its value; the names in it are those of `_SCOPE`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

from otel_canonical.event import logfmt

#: Of more expressions and texts than these Python makes a list first, and joins that.
MOST_PIECES = 30

#: So many texts of a field are remembered, and up to this length: clients choose many of them.
TEXTS_REMEMBERED = 256
LONGEST_REMEMBERED = 200

#: Microseconds are written as two groups of three digits: to format a float takes twice as long. There is no
#: group for a second or more, nor for a negative number.
MILLISECONDS = {number: f"0.{number:03d}" for number in range(1000)}

_SCOPE = {
    "milliseconds": MILLISECONDS,
    "microseconds": tuple([f"{number:03d}" for number in range(1000)]),
}

#: How a value that needs no quotes is written, by the field's type.
_SHOWN = {
    "int": "{%s}",
    "float": "{milliseconds[(us := (%s + 500) // 1000) // 1000]}{microseconds[us %% 1000]}",
    "bool": "{%s}",
    "str": "{%s}",
}

#: Durations that are 0 in most requests.
_OFTEN_ZERO = ("resp_cpu_wait", "db_dup_time")

#: Numbers that come again: to look one up takes a quarter of writing it.
_RECURRING = ("resp_status", "g_pid")


def seconds(elapsed_ns: int) -> float:
    """Return a duration in seconds, to the microsecond."""
    return (elapsed_ns + 500) // 1000 / 1e6


def seconds_text(elapsed_ns: int) -> str:
    """Return `seconds` as `logfmt` writes it; to find the shortest text of a float takes five times as long."""
    microseconds = (elapsed_ns + 500) // 1000
    text = f"{microseconds // 1_000_000}.{microseconds % 1_000_000:06d}".rstrip("0")
    return f"{text}0" if text[-1] == "." else text


class KnownTexts(dict[Any, str]):
    """How the values of one field that were seen lately are written, with a space and the key in front.

    Look in it with `get`, and `add` what isn't there.

    Args:
        key: of the field.
        kind: the type of the values that are remembered. A value of another one may be equal, and is
            written differently: `1`, `1.0` and `True`.
    """

    def __init__(self, key: str, kind: type) -> None:
        super().__init__()
        self._key = key
        self._kind = kind

    def add(self, value: Any) -> str:
        """Return how a value is written, and remember it."""
        written = f" {self._key}={logfmt.shown(value)}"
        is_short = not isinstance(value, str) or len(value) <= LONGEST_REMEMBERED
        if type(value) is self._kind and is_short:
            if len(self) >= TEXTS_REMEMBERED:
                self.clear()
            self[value] = written
        return written


class RowText:
    """The text of a row before it is compiled: the fields, and the names that they use.

    Args:
        fields: how each is written, with a space in front.
        scope: what the names in `fields` mean, beside those of `_SCOPE`.
    """

    __slots__ = ("fields", "scope")

    def __init__(self, fields: Sequence[str], scope: dict[str, Any] | None = None) -> None:
        self.fields = tuple(fields)
        self.scope = scope or {}

    @classmethod
    def of_plain(cls, columns: Sequence[tuple[str, str]]) -> RowText:
        """Return the text of fields that are always there and need no quotes: keys and types."""
        fields: list[str] = []
        scope: dict[str, Any] = {}
        for key, type_ in columns:
            if key in _RECURRING:
                fields.append(_known(key))
                scope |= _scope_of(key, int)
            elif key in _OFTEN_ZERO:
                groups = _SHOWN[type_][1:-1].replace("}{", " + ")
                fields.append(f" {key}={{'0.000000' if %s == 0 else {groups}}}")
            else:
                fields.append(f" {key}={_SHOWN[type_]}")
        return cls(fields, scope)

    @classmethod
    def of_texts(cls, keys: Sequence[str]) -> RowText:
        """Return the text of fields that may be absent and hold any text."""
        fields = [f"{{'' if %s is None else {_known(key)[1:-1]}}}" for key in keys]
        scope: dict[str, Any] = {}
        for key in keys:
            scope |= _scope_of(key, str)
        return cls(fields, scope)

    def __add__(self, other: RowText) -> RowText:
        """Return the text of both rows, one behind the other."""
        return RowText((*self.fields, *other.fields), {**self.scope, **other.scope})

    def compiled(self, otherwise: Callable[[Any], str]) -> Callable[[Any], str]:
        """Return the function that takes the values and returns their text, without a space in front.

        Args:
            otherwise: writes the row if a duration is not below a second.
        """
        values = [f"value_{number}" for number in range(len(self.fields))]
        fields = [
            field % ((value,) * field.count("%s"))
            for field, value in zip(self.fields, values, strict=True)
        ]
        # A field whose text is looked up brings its space along; another one's can be left out here.
        has_space = not fields[0].startswith(" ")
        fields[0] = fields[0].removeprefix(" ")
        text = " + ".join([f'f"{part}"' for part in _parts(fields)])
        scope: dict[str, Any] = {**_SCOPE, **self.scope, "otherwise": otherwise}
        # Of keys of ours, and nothing else.
        exec(
            "def as_logfmt(values):\n"
            f"    {', '.join(values)}, = values\n"
            "    try:\n"
            f"        return {f'({text})[1:]' if has_space else text}\n"
            "    except KeyError:\n"
            "        return otherwise(values)\n",
            scope,
        )
        return cast("Callable[[Any], str]", scope["as_logfmt"])


def _parts(fields: Sequence[str]) -> list[str]:
    """Return the fields joined to as few f-strings as are built at once, by `MOST_PIECES`."""
    parts, left = [""], MOST_PIECES
    for field in fields:
        # Each expression, and the text in front of the first one.
        pieces = field.count("{") + 1
        if pieces > left:
            parts.append("")
            left = MOST_PIECES
        parts[-1] += field
        left -= pieces
    return parts


def forget() -> None:
    """Forget all texts of fields, for a benchmark of texts that are new."""
    for known in _all_known:
        known.clear()


def _known(key: str) -> str:
    return f"{{known_{key}(%s) or add_{key}(%s)}}"


def _scope_of(key: str, kind: type) -> dict[str, Any]:
    known = KnownTexts(key, kind)
    _all_known.append(known)
    return {f"known_{key}": known.get, f"add_{key}": known.add}


_all_known: list[KnownTexts] = []
