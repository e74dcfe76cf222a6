"""The text of a running stack, with the local variables of the app's frames if the operator says so. Pure."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from types import FrameType

from otel_canonical import stack_location
from otel_canonical.redaction import REDACTED, RedactionPolicy

#: Bounds of what is shown of local variables.
LONGEST_VALUE = 120
MOST_LOCALS = 20


def stack_lines(frame: FrameType) -> str:
    """Return the stack as Python prints it, innermost last; `frame` is the innermost."""
    return "".join(traceback.format_stack(frame))


def with_locals(redaction: RedactionPolicy) -> Callable[[FrameType], str]:
    """Return a variant of `stack_lines` that shows locals, bounded and redacted."""

    def stack_lines_and_locals(frame: FrameType) -> str:
        lines: list[str] = []
        current: FrameType | None = frame
        while current is not None:
            [text] = traceback.format_list(traceback.extract_stack(current, limit=1))
            if not stack_location.is_library(current.f_code.co_filename):
                text += _locals(current, redaction)
            lines.append(text)
            current = current.f_back
        return "".join(reversed(lines))

    return stack_lines_and_locals


def short(stack: str) -> str:
    """Return a stack on one line, innermost first, without source lines: `a.py:3:f < b.py:9:g`.

    Locals stay behind their frame, in parentheses.
    """
    frames: list[str] = []
    for line in stack.splitlines():
        if line.startswith('  File "'):
            filename, _, rest = line[8:].partition('", line ')
            number, _, function = rest.partition(", in ")
            frames.append(stack_location.location((filename, int(number or 0), function)))
        elif line.startswith("      ") and frames:
            frames[-1] += f" ({line.strip()})"
    return " < ".join(reversed(frames))


def _locals(frame: FrameType, redaction: RedactionPolicy) -> str:
    shown: list[str] = []
    for name, value in list(frame.f_locals.items())[:MOST_LOCALS]:
        if redaction.is_secret(name):
            text = REDACTED
        else:
            # A repr runs the app's code, in our thread: only of what can't do anything.
            text = repr(value) if type(value) in _PLAIN else f"<{type(value).__name__}>"
            text = redaction.text(text[:LONGEST_VALUE])
        shown.append(f"{name}={text}")
    return f"      {', '.join(shown)}\n" if shown else ""


_PLAIN = frozenset((str, bytes, int, float, bool, complex, type(None)))
