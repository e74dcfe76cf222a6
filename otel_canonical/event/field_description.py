"""The description of one field of the event. Pure."""

from __future__ import annotations

from dataclasses import dataclass

FieldValue = str | int | float | bool
#: What spans and log events hold: lists of one kind, too.
AttributeValue = FieldValue | tuple[str, ...] | tuple[int, ...] | tuple[float, ...]


@dataclass(frozen=True, slots=True)
class FieldDescription:
    """One field. `attribute` is empty if the span itself has it (its ids and times)."""

    key: str
    attribute: str
    type: str
    meaning: str
    unit: str = ""
    #: Never shortened or dropped to make a line fit: identity, outcome and times.
    protected: bool = False


def describe_field(
    key: str, attribute: str, type_: str, meaning: str, *, unit: str = "", protected: bool = False
) -> FieldDescription:
    """Return the description of a field."""
    return FieldDescription(key, attribute, type_, meaning, unit, protected)
