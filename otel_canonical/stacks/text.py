"""Formats a running stack as text, with the app's local variables if the operator wants them. Pure."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping, Sequence
from inspect import CO_OPTIMIZED
from types import FrameType
from typing import Any

from otel_canonical.event.logfmt import UNSHOWABLE
from otel_canonical.event.redaction import MARGIN, REDACTED, RedactionPolicy
from otel_canonical.stacks.frames import LOCALS_ARE_SHARED, locals_of
from otel_canonical.stacks.location import is_library, location

#: Limits on the local variables shown: characters of a value, variables of a frame.
LONGEST_VALUE = 120
MOST_LOCALS = 20
#: How many frames are shown at the two ends of a long stack.
MOST_OUTER_FRAMES, MOST_INNER_FRAMES = 40, 80

#: A function that uses one of these names may be using that dictionary.
_HOLDING_LOCALS = frozenset(("locals", "vars", "eval", "exec", "f_locals"))
HELD = "locals not shown: it works with them"

#: Formats a stack, given its frames from the outermost to the innermost.
Describe = Callable[[Sequence[FrameType]], str]


def without_locals(redaction: RedactionPolicy) -> Describe:
    """Return what formats a stack as Python prints it, innermost frame last, without secrets."""

    def stack_lines(frames: Sequence[FrameType]) -> str:
        return _joined(frames, lambda frame, text: redaction.text(text))

    return stack_lines


def with_locals(redaction: RedactionPolicy) -> Describe:
    """Return a variant that also shows the local variables of the app's frames, shortened."""

    def describe(frame: FrameType, text: str) -> str:
        text = redaction.text(text)
        is_app = not is_library(frame.f_code.co_filename)
        return text + _locals(frame, redaction) if is_app else text

    return lambda frames: _joined(frames, describe)


def short(stack: str) -> str:
    """Return a stack on one line, innermost first, without source lines: `a.py:3:f < b.py:9:g`.

    Locals follow their frame, in parentheses.
    """
    frames: list[str] = []
    for line in stack.splitlines():
        if line.startswith('  File "'):
            filename, _, rest = line[8:].partition('", line ')
            number, _, function = rest.partition(", in ")
            frames.append(location((filename, int(number or 0), function)))
        elif line.startswith("      ") and frames:
            frames[-1] += f" ({line.strip()})"
    return " < ".join(reversed(frames))


def _joined(frames: Sequence[FrameType], describe: Callable[[FrameType, str], str]) -> str:
    """Return the texts of a stack's frames; of a long one its two ends."""
    between = len(frames) - MOST_OUTER_FRAMES - MOST_INNER_FRAMES
    if between <= 0:
        return "".join([describe(frame, _line(frame)) for frame in frames])
    outer = _joined(frames[:MOST_OUTER_FRAMES], describe)
    inner = _joined(frames[-MOST_INNER_FRAMES:], describe)
    return f"{outer}  [{between} frames left out]\n{inner}"


def _line(frame: FrameType) -> str:
    code = frame.f_code
    # One by one: for several frames Python replaces the repetitions of a recursion by a remark.
    place = traceback.FrameSummary(code.co_filename, frame.f_lineno, code.co_name)
    return traceback.format_list([place])[0]


def _locals(frame: FrameType, redaction: RedactionPolicy) -> str:
    if _may_hold_its_locals(frame):
        return f"      {HELD}\n"
    shown: list[str] = []
    for name, value in _variables(frame)[:MOST_LOCALS]:
        if redaction.is_secret(name):
            text = REDACTED
        else:
            text = redaction.text(_shown(value), LONGEST_VALUE)
        shown.append(f"{name}={text}")
    return f"      {', '.join(shown)}\n" if shown else ""


def _may_hold_its_locals(frame: FrameType) -> bool:
    """Return whether reading this frame's locals may change a dictionary that the app is using.

    An iteration of the app's could then fail, or its changes to the dictionary be undone.
    """
    code = frame.f_code
    return (
        LOCALS_ARE_SHARED
        and bool(code.co_flags & CO_OPTIMIZED)
        and not _HOLDING_LOCALS.isdisjoint(code.co_names)
    )


def _variables(frame: FrameType) -> list[tuple[str, object]]:
    """Return a copy of a frame's variables, made atomically: no code of the app runs meanwhile."""
    variables: Mapping[Any, object] = locals_of(frame)
    if frame.f_code.co_flags & CO_OPTIMIZED:
        return list(variables.items())
    # The namespace of a module or class. A metaclass may supply any mapping.
    if not isinstance(variables, dict):
        return []
    return [pair for pair in list(dict.items(variables)) if isinstance(pair[0], str)]


def _shown(value: object) -> str:
    # A repr may run the app's code in our thread, so only built-in types are shown.
    if type(value) not in _PLAIN:
        return f"<{type(value).__name__}>"
    try:
        if isinstance(value, str | bytes):
            # What is beyond is not shown; a margin lets secrets be recognised by their end.
            return repr(value[: LONGEST_VALUE + MARGIN])
        return repr(value)
    except ValueError:
        # An int beyond `sys.get_int_max_str_digits()`.
        return UNSHOWABLE


_PLAIN = frozenset((str, bytes, int, float, bool, complex, type(None)))
