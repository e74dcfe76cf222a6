"""Formats a running stack as text, with the app's local variables if the operator wants them. Pure."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from inspect import CO_OPTIMIZED
from types import FrameType
from typing import Any

from otel_canonical.event.logfmt import UNSHOWABLE
from otel_canonical.event.redaction import REDACTED, RedactionPolicy
from otel_canonical.stacks.location import is_library, location

#: Limits on the local variables shown: characters of a value, variables of a frame.
LONGEST_VALUE = 120
MOST_LOCALS = 20

#: Before 3.13 a function has one dictionary of locals, which each access to `f_locals` updates.
_LOCALS_ARE_SHARED = sys.version_info < (3, 13)
#: A function that uses one of these names may be using that dictionary.
_HOLDING_LOCALS = frozenset(("locals", "vars", "eval", "exec", "f_locals"))
HELD = "locals not shown: it works with them"

#: Formats a stack, given its frames from the outermost to the innermost.
Describe = Callable[[Sequence[FrameType]], str]


def stack_lines(frames: Sequence[FrameType]) -> str:
    """Return the stack as Python prints it, innermost frame last."""
    return "".join(_lines(frames))


def with_locals(redaction: RedactionPolicy) -> Describe:
    """Return a variant of `stack_lines` that also shows local variables, shortened and redacted."""

    def stack_lines_and_locals(frames: Sequence[FrameType]) -> str:
        return "".join(
            text if is_library(frame.f_code.co_filename) else text + _locals(frame, redaction)
            for frame, text in zip(frames, _lines(frames), strict=True)
        )

    return stack_lines_and_locals


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


def _lines(frames: Sequence[FrameType]) -> list[str]:
    places = [
        traceback.FrameSummary(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name)
        for frame in frames
    ]
    # One by one: for several frames Python replaces the repetitions of a recursion by a remark.
    return [traceback.format_list([place])[0] for place in places]


def _locals(frame: FrameType, redaction: RedactionPolicy) -> str:
    if _may_hold_its_locals(frame):
        return f"      {HELD}\n"
    shown: list[str] = []
    for name, value in _variables(frame)[:MOST_LOCALS]:
        if redaction.is_secret(name):
            text = REDACTED
        else:
            text = redaction.text(_shown(value)[:LONGEST_VALUE])
        shown.append(f"{name}={text}")
    return f"      {', '.join(shown)}\n" if shown else ""


def _may_hold_its_locals(frame: FrameType) -> bool:
    """Return whether reading this frame's locals may change a dictionary that the app is using.

    An iteration of the app's could then fail, or its changes to the dictionary be undone.
    """
    code = frame.f_code
    return (
        _LOCALS_ARE_SHARED
        and bool(code.co_flags & CO_OPTIMIZED)
        and not _HOLDING_LOCALS.isdisjoint(code.co_names)
    )


def _variables(frame: FrameType) -> list[tuple[str, object]]:
    """Return a copy of a frame's variables, made atomically: no code of the app runs meanwhile."""
    variables: Mapping[Any, object] = frame.f_locals
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
        return repr(value)
    except ValueError:
        # An int beyond `sys.get_int_max_str_digits()`.
        return UNSHOWABLE


_PLAIN = frozenset((str, bytes, int, float, bool, complex, type(None)))
