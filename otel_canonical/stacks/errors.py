"""Reduces an exception to the fields of a line: type, message, location, template line. Pure."""

from __future__ import annotations

import re
import traceback
from dataclasses import dataclass, field, replace
from types import FrameType, TracebackType

from otel_canonical.event.logfmt import as_text
from otel_canonical.stacks.location import locate_error

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


#: The longest text of a stack, in characters; longer ones lose their middle.
LONGEST_STACK = 32_768


def stack_of(error: BaseException) -> str:
    """Return an exception's stack as Python prints it, including its causes."""
    text = "".join(traceback.format_exception(error))
    if len(text) <= LONGEST_STACK:
        return text
    half = LONGEST_STACK // 2
    return f"{text[:half]}\n  [{len(text) - 2 * half} characters left out]\n{text[-half:]}"


def of_error(error: BaseException) -> ErrorFacts:
    """Return the fields of an exception. If its `__str__` raises, the message is `!err`."""
    message = as_text(error)
    location = locate_error(error)
    return ErrorFacts(
        type=type(error).__name__,
        message=message,
        loc=location.loc if location else None,
        cause_loc=location.cause_loc if location else None,
        template=_template_line(error),
        raised=error,
    )


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
    syntax_token = getattr(error, "token", None)
    trace: TracebackType | None = error.__traceback__
    while trace is not None:
        frame = trace.tb_frame
        if frame.f_globals.get("__name__") == "django.template.base":
            owner = frame.f_locals.get("self")
            if frame.f_code.co_name == "render_annotated":
                found = _line_of(owner, getattr(owner, "token", None)) or found
            elif frame.f_code.co_name == "compile_nodelist" and syntax_token is not None:
                found = _line_of(owner, syntax_token) or found
        trace = trace.tb_next
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
    trace = error.__traceback__
    while trace is not None:
        frame = trace.tb_frame
        if not beneath or not str(frame.f_globals.get("__name__")).startswith(beneath):
            found = frame
        trace = trace.tb_next
    return found
