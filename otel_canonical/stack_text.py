"""The text of a running stack, with the local variables of the app's frames if the operator says so. Pure."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from types import FrameType

from otel_canonical import stack_location
from otel_canonical.redaction import REDACTED, RedactionPolicy

#: Bounds of what is shown of local variables.
LONGEST_VALUE = 120
MOST_LOCALS = 20


#: Makes the text of a stack, given its frames from the outermost to the innermost.
Describe = Callable[[Sequence[FrameType]], str]


def stack_lines(frames: Sequence[FrameType]) -> str:
    """Return the stack as Python prints it, innermost last."""
    return "".join(_lines(frames))


def with_locals(redaction: RedactionPolicy) -> Describe:
    """Return a variant of `stack_lines` that shows locals, bounded and redacted."""

    def stack_lines_and_locals(frames: Sequence[FrameType]) -> str:
        return "".join(
            text
            if stack_location.is_library(frame.f_code.co_filename)
            else text + _locals(frame, redaction)
            for frame, text in zip(frames, _lines(frames), strict=True)
        )

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


def _lines(frames: Sequence[FrameType]) -> list[str]:
    places = [
        traceback.FrameSummary(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name)
        for frame in frames
    ]
    # One by one: Python folds the repeated frames of a recursion into one line of its own.
    return [traceback.format_list([place])[0] for place in places]


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
