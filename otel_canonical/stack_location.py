"""Which frame of a stack to name: the app's own code rather than the library that carried it. Pure.

A location is `file:line:function`, the file as it is imported (below its `sys.path` entry).
"""

from __future__ import annotations

import os
import site
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import CodeType, FrameType, TracebackType

#: A chain of causes longer than this is cut; also the guard against a chain that is a circle.
LONGEST_CAUSE_CHAIN = 20


@dataclass(frozen=True, slots=True)
class StackLocation:
    """Where in the app something happened.

    `loc` is the app's outermost frame: the last place that could have handled it. `cause_loc` is the
    innermost app frame or, if there is only one, the frame where it really happened.
    """

    loc: str
    cause_loc: str


def of_error(error: BaseException) -> StackLocation | None:
    """Return where `error` was raised; the cause is that of the root of its `__cause__` chain."""
    frames = list(_of_traceback(error.__traceback__))
    if not frames:
        return None
    located = _locate(frames)
    root = _root_cause(error)
    if root is not error and (root_frames := list(_of_traceback(root.__traceback__))):
        return StackLocation(located.loc, _locate(root_frames).cause_loc)
    return located


def of_frame(frame: FrameType | None) -> StackLocation | None:
    """Return where a running stack is, `frame` being its innermost one."""
    frames: list[tuple[CodeType, int]] = []
    while frame is not None:
        frames.append((frame.f_code, frame.f_lineno or 0))
        frame = frame.f_back
    return _locate(frames[::-1]) if frames else None


def is_library(filename: str) -> bool:
    """Return whether a source file belongs to Python, to an installed package or to us."""
    known = _is_library.get(filename)
    if known is None:
        known = _is_library[filename] = filename.startswith("<") or filename.startswith(
            _library_roots()
        )
    return known


def _root_cause(error: BaseException) -> BaseException:
    for _ in range(LONGEST_CAUSE_CHAIN):
        if error.__cause__ is None:
            break
        error = error.__cause__
    return error


def _of_traceback(trace: TracebackType | None) -> Iterator[tuple[CodeType, int]]:
    while trace is not None:
        yield trace.tb_frame.f_code, trace.tb_lineno
        trace = trace.tb_next


def _locate(frames: list[tuple[CodeType, int]]) -> StackLocation:
    app = [frame for frame in frames if not is_library(frame[0].co_filename)]
    outermost = app[0] if app else frames[0]
    innermost = app[-1] if len(app) > 1 else frames[-1]
    return StackLocation(_location(*outermost), _location(*innermost))


def _location(code: CodeType, line: int) -> str:
    return f"{_short(code.co_filename)}:{line}:{code.co_name}"


def _short(filename: str) -> str:
    short = _shortened.get(filename)
    if short is None:
        entries = (os.path.join(os.path.abspath(entry), "") for entry in sys.path)
        longest = max((len(entry) for entry in entries if filename.startswith(entry)), default=0)
        short = _shortened[filename] = filename[longest:]
    return short


def _library_roots() -> tuple[str, ...]:
    # Not `sysconfig.get_paths()["data"]`: that is sys.prefix, and with a system interpreter (/usr)
    # it would make a library of an app that lives in /usr/src/app.
    if not _roots:
        paths = sysconfig.get_paths()
        directories = {paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")}
        directories.update(site.getsitepackages(), (site.getusersitepackages(),))
        # Debian's interpreter keeps packages here, outside all of sysconfig's own paths.
        directories.update(entry for entry in sys.path if entry.endswith("-packages"))
        directories.add(os.path.dirname(os.path.abspath(__file__)))
        _roots.extend(_with_real_paths(directories))
    return tuple(_roots)


def _with_real_paths(directories: Iterable[str]) -> Iterator[str]:
    for directory in directories:
        yield os.path.join(directory, "")
        yield os.path.join(os.path.realpath(directory), "")


_is_library: dict[str, bool] = {}
_shortened: dict[str, str] = {}
_roots: list[str] = []
