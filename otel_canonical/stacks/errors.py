"""Reduces an exception to the fields of a line: type, message, location, template line. Pure."""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import FrameType
from typing import TypeVar

from otel_canonical import internal_errors
from otel_canonical.event import bounds
from otel_canonical.event.logfmt import as_text
from otel_canonical.event.redaction import RedactionPolicy
from otel_canonical.internal_errors import is_apps_own
from otel_canonical.stacks import tracebacks
from otel_canonical.stacks.location import LONGEST_CAUSE_CHAIN, locate_error

T = TypeVar("T")

_QUERY = re.compile(r"\?[^\s'\"]+")


@dataclass(frozen=True, slots=True)
class ErrorFacts:
    """The fields of an exception that ended a request, or that the app survived."""

    type: str
    message: str
    loc: str | None = None
    cause_loc: str | None = None
    template: str | None = None
    #: The exception itself, for its stack. Drop it soon: it keeps alive everything that its frames hold.
    raised: BaseException | None = field(default=None, compare=False, repr=False)

    def without_stack(self) -> ErrorFacts:
        """Return the same fields without the exception."""
        return replace(self, raised=None)


_CAUSE = "\nThe above exception was the direct cause of the following exception:\n\n"
_CONTEXT = "\nDuring handling of the above exception, another exception occurred:\n\n"

#: Limits on what is shown of notes (PEP 678), and of a group's exceptions and those within these.
MOST_NOTES, MOST_IN_GROUP, DEEPEST_GROUP = 10, 5, 3


def stack_of(error: BaseException, clean: Callable[[str], str]) -> str:
    """Return an exception's stack much as Python prints it, including its causes.

    Args:
        error: the exception.
        clean: removes the secrets from a text, and cuts it. It gets each message and each frame.
    """
    parts: list[str] = []
    current: BaseException | None = error
    for _ in range(LONGEST_CAUSE_CHAIN):
        assert current is not None
        parts.append(_one_stack(current, clean, 0))
        if current.__cause__ is not None:
            parts.append(_CAUSE)
            current = current.__cause__
        elif current.__context__ is not None and not current.__suppress_context__:
            parts.append(_CONTEXT)
            current = current.__context__
        else:
            break
    else:
        parts.append("[more causes left out]\n")
    return _without_middle("".join(reversed(parts)), bounds.LONGEST_STACK)


def report_with(redaction: RedactionPolicy) -> None:
    """Have reports of our own errors redacted, escaped and cut in this process."""

    def clean(text: str) -> str:
        return redaction.text(text)

    def describe(error: BaseException) -> str:
        # The frames' own lines end in a newline; messages must not hold one.
        return stack_of(error, lambda text: _escaped_lines(clean(text))).rstrip("\n")

    internal_errors.set_policy(clean, describe)


def _escaped_lines(text: str) -> str:
    is_frame = text.startswith("  File ")
    if not is_frame:
        return internal_errors.escaped(text)
    return "\n".join([internal_errors.escaped(line) for line in text.split("\n")])


def _one_stack(error: BaseException, clean: Callable[[str], str], depth: int) -> str:
    heading = "Traceback (most recent call last):\n" if error.__traceback__ is not None else ""
    shown = heading + tracebacks.text_of(error.__traceback__, clean) + _last_lines(error, clean)
    members = getattr(error, "exceptions", ())
    if isinstance(members, tuple) and depth < DEEPEST_GROUP:
        for number, member in enumerate(members[:MOST_IN_GROUP], 1):
            if isinstance(member, BaseException):
                inner = _one_stack(member, clean, depth + 1)
                shown += f"  +-- {number} of {len(members)}\n"
                shown += "".join([f"  | {line}\n" for line in inner.splitlines()])
    return shown


def _last_lines(error: BaseException, clean: Callable[[str], str]) -> str:
    """Return class, message and notes. Python shows more of a SyntaxError: the line that has it."""
    if isinstance(error, SyntaxError):
        lines = "".join(traceback.format_exception_only(error)).splitlines()
        return "".join([f"{clean(line)}\n" for line in lines])
    kind = type(error)
    module = kind.__module__
    name = (
        kind.__qualname__ if module in ("builtins", "__main__") else f"{module}.{kind.__qualname__}"
    )
    message = clean(as_text(error))
    shown = f"{name}: {message}\n" if message else f"{name}\n"
    notes = getattr(error, "__notes__", None)
    if isinstance(notes, list):
        shown += "".join([f"{clean(as_text(note))}\n" for note in notes[:MOST_NOTES]])
    return shown


def _without_middle(text: str, most: int) -> str:
    """Return a text that is not too long, without lines from its middle."""
    if len(text) <= most:
        return text
    head = text.rfind("\n", 0, most // 2) + 1 or most // 2
    tail = text.find("\n", len(text) - most // 2) + 1 or len(text) - most // 2
    return f"{text[:head]}  [{tail - head} characters left out]\n{text[tail:]}"


def of_error(error: BaseException) -> ErrorFacts:
    """Return the fields of an exception, as far as its own code lets them be read.

    If its `__str__` raises, the message is `!err`.
    """
    location = _if_readable(locate_error, error)
    return ErrorFacts(
        type=name_of(type(error)),
        message=as_text(error),
        loc=location.loc if location else None,
        cause_loc=location.cause_loc if location else None,
        template=_if_readable(_template_line, error),
        raised=error,
    )


def name_of(kind: type) -> str:
    """Return the name of a class, whatever its metaclass makes of `__name__`."""
    name: str = _NAME(kind)
    return name


_NAME = type.__dict__["__name__"].__get__


def _if_readable(read: Callable[[BaseException], T | None], error: BaseException) -> T | None:
    """Return what `read` finds; None if the exception's own code fails."""
    try:
        return read(error)
    except BaseException as failure:
        if not is_apps_own(failure):
            raise
        return None


def of_refusal(error: BaseException) -> ErrorFacts:
    """Return the fields of an HTTP parser's exception; query strings that it quotes are redacted."""
    facts = of_error(error)
    # Without the exception: its stack ends in the unredacted message.
    return replace(facts, message=_QUERY.sub("?[redacted]", facts.message), raised=None)


def _template_line(error: BaseException) -> str | None:
    """Return `template:line` of the innermost Django template node on the exception's way.

    It is read from the traceback's frames. Django sets it on the exception only under DEBUG, and wrapping
    the rendering of nodes would slow down every template.
    """
    found: str | None = None
    syntax_token: object = _if_readable(lambda raised: getattr(raised, "token", None), error)
    first, last, _ = tracebacks.entries_of(error.__traceback__)
    for entry in (*first, *last):
        frame = entry.tb_frame
        if frame.f_globals.get("__name__") == "django.template.base":
            owner = frame.f_locals.get("self")
            if frame.f_code.co_name == "render_annotated":
                found = _line_of(owner, getattr(owner, "token", None)) or found
            elif frame.f_code.co_name == "compile_nodelist":
                found = _line_of(owner, syntax_token) or found
    return found


def _line_of(owner: object, token: object) -> str | None:
    origin = getattr(owner, "origin", None)
    name = getattr(origin, "template_name", None) or getattr(origin, "name", None)
    line = getattr(token, "lineno", None)
    return f"{name}:{line}" if name and line else None


def last_frame(error: BaseException, beneath: tuple[str, ...] = ()) -> FrameType | None:
    """Return the frame in which an exception was raised.

    Args:
        error: the exception.
        beneath: prefixes of module names whose frames are skipped, so that their caller is returned.
    """
    found: FrameType | None = None
    first, last, _ = tracebacks.entries_of(error.__traceback__)
    for entry in (*first, *last):
        frame = entry.tb_frame
        if not beneath or not str(frame.f_globals.get("__name__")).startswith(beneath):
            found = frame
    return found
