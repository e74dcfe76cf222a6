"""Which lines a command shows: the filters of `tail`."""

from __future__ import annotations

import argparse
import fnmatch
import re
from collections.abc import Callable

from otel_canonical.event.logfmt import as_text
from otel_canonical.reading.recognise import Fields

Filter = Callable[[Fields], bool]

_STATUS = re.compile(r"(\d)xx|(\d{3})(?:-(\d{3}))?")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the filters; a line must pass all that are given."""
    parser.add_argument(
        "--status", type=status_filter, metavar="5xx", help="statuses: 404, 5xx, 500-503; commas"
    )
    parser.add_argument(
        "--slower", type=float, metavar="SECONDS", help="took at least so long, or runs that long"
    )
    parser.add_argument("--route", metavar="ROUTE", help="this route; * stands for anything")
    parser.add_argument(
        "--event", type=_words, metavar="TYPE", help="event types: timeout, lost, slow…; commas"
    )
    parser.add_argument(
        "--has",
        action="append",
        metavar="KEY[=VALUE]",
        help="has this key, or this value under it; may be given again",
    )


def chosen(options: argparse.Namespace) -> Filter:
    """Return the filter that the options ask for."""
    filters: list[Filter] = []
    if options.status is not None:
        filters.append(options.status)
    if options.slower is not None:
        filters.append(lambda fields: (number(fields, "resp_time") or 0.0) >= options.slower)
    if options.route is not None:
        filters.append(lambda fields: matches(options.route, str(fields.get("req_route", ""))))
    if options.event is not None:
        filters.append(lambda fields: fields.get("event_type") in options.event)
    filters += [_has(wanted) for wanted in options.has or ()]
    return lambda fields: all(passes(fields) for passes in filters)


def number(fields: Fields, key: str) -> float | None:
    """Return a value as a number; None if it is absent or none."""
    value = fields.get(key)
    if value is None or isinstance(value, bool):
        return None
    try:
        return float(value)
    except ValueError:
        return None


def matches(pattern: str, route: str) -> bool:
    """Return whether a route is the wanted one; brackets in routes stand for themselves."""
    return route == pattern or fnmatch.fnmatchcase(route, pattern.replace("[", "[[]"))


def status_filter(text: str) -> Filter:
    """Return the filter of a list of statuses.

    Raises:
        ArgumentTypeError: it is none.
    """
    ranges: list[tuple[int, int]] = []
    for word in text.split(","):
        found = _STATUS.fullmatch(word.strip().lower())
        if found is None:
            raise argparse.ArgumentTypeError(f"{word!r} is no status: 404, 5xx or 500-503")
        hundred, first, last = found.groups()
        if hundred:
            ranges.append((int(hundred) * 100, int(hundred) * 100 + 99))
        else:
            ranges.append((int(first), int(last or first)))

    def passes(fields: Fields) -> bool:
        status = number(fields, "resp_status")
        return status is not None and any(first <= status <= last for first, last in ranges)

    return passes


def _has(wanted: str) -> Filter:
    key, equals, value = wanted.partition("=")
    if not equals:
        return lambda fields: key in fields
    return lambda fields: key in fields and as_text(fields[key]) == value


def _words(text: str) -> frozenset[str]:
    return frozenset(word.strip() for word in text.split(","))
