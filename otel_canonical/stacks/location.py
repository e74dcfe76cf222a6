"""Chooses which frames of a stack to name: the app's own code, not the libraries that called it. Pure.

A location is `file:line:function`, with the file relative to its `sys.path` entry. Where no frame is the
app's, the view may be a library's (Django's admin, Oscar): then the outermost frame of that library is
named. Frames of Gunicorn, Django's core, console scripts and otel-canonical itself are never named as
where something happened, only as its cause.
"""

from __future__ import annotations

import functools
import os
import site
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import FrameType, TracebackType

from otel_canonical.stacks import tracebacks
from otel_canonical.stacks.server_io import waits_for_client

#: File, line, function.
Frame = tuple[str, int, str]

#: Django's functions that call the view, and their file.
DISPATCHERS = ("_get_response", "_get_response_async")
DISPATCHER_FILE = os.path.join("django", "core", "handlers", "base.py")

#: Packages that every request passes through, whatever its view is.
HOSTS = frozenset(
    """gunicorn uvicorn uvicorn_worker uvloop gevent greenlet asgiref django opentelemetry otel_canonical
    wrapt h11 httptools websockets wsproto h2""".split()
)
#: Apps that Django brings along; their views are views.
CONTRIB = f"{os.sep}django{os.sep}contrib{os.sep}"

GUNICORN_DIRECTORY = f"{os.sep}gunicorn{os.sep}"

#: The longest chain of causes that is followed; it also ends a chain that is a cycle.
LONGEST_CAUSE_CHAIN = 20


@dataclass(frozen=True, slots=True)
class StackLocation:
    """Where in the app something happened.

    `loc` is the app's outermost frame, usually the view; None if no frame may be named. `cause_loc` is
    the app's innermost frame or, if it has only one, the innermost frame of all, or what the server
    waits for there.
    """

    loc: str | None
    cause_loc: str


def locate_error(error: BaseException) -> StackLocation | None:
    """Return where `error` was raised; `cause_loc` is that of the last exception in its `__cause__` chain."""
    frames = list(_of_traceback(error.__traceback__))
    if not frames:
        return None
    located = _locate(frames)
    root = _root_cause(error)
    if root is not error and (root_frames := list(_of_traceback(root.__traceback__))):
        return StackLocation(located.loc, _locate(root_frames).cause_loc)
    return located


def locate_stack(frames: list[Frame]) -> StackLocation | None:
    """Return the location of a running stack, given its frames from the outermost to the innermost.

    The frames that started the process, and the app's middleware, are on every request's stack. So the
    frames that Django's handler called come first: there the app's outermost frame is the view, and in
    a view of a library no frame is the app's. Without a view, the frames that Gunicorn called count
    (middleware, streamed bodies). While a server reads or writes, that is the cause, not a line of the
    server's.
    """
    if not frames:
        return None
    waits_for = waits_for_client(frames)
    view = _above_last(frames, _is_django_dispatcher)
    if view:
        return _locate(view, waits_for)
    if any(_is_gunicorn(frame) for frame in frames):
        # What is below Gunicorn is what has started it: a script, perhaps one of the app's.
        return _locate(_above_last(frames, _is_gunicorn) or frames[-1:], waits_for)
    return _locate(frames, waits_for)


def as_frames(frames: Iterable[FrameType]) -> list[Frame]:
    """Return running frames as plain tuples, in the same order."""
    return [
        (frame.f_code.co_filename, frame.f_lineno or 0, frame.f_code.co_name) for frame in frames
    ]


def is_library(filename: str) -> bool:
    """Return whether a source file belongs to Python, to an installed package or to otel-canonical."""
    known = _is_library.get(filename)
    if known is None:
        known = _is_library[filename] = filename.startswith(("<", *_library_roots()))
    return known


def _above_last(frames: list[Frame], is_dispatcher: Callable[[Frame], bool]) -> list[Frame]:
    for position in range(len(frames) - 1, -1, -1):
        if is_dispatcher(frames[position]):
            return frames[position + 1 :]
    return []


def _is_django_dispatcher(frame: Frame) -> bool:
    return frame[2] in DISPATCHERS and frame[0].endswith(DISPATCHER_FILE)


def _is_gunicorn(frame: Frame) -> bool:
    return GUNICORN_DIRECTORY in frame[0] and is_library(frame[0])


def _root_cause(error: BaseException) -> BaseException:
    for _ in range(LONGEST_CAUSE_CHAIN):
        if error.__cause__ is None:
            break
        error = error.__cause__
    return error


def _of_traceback(trace: TracebackType | None) -> Iterator[Frame]:
    first, last, _ = tracebacks.entries_of(trace)
    for entry in (*first, *last):
        code = entry.tb_frame.f_code
        yield code.co_filename, entry.tb_lineno, code.co_name


def _locate(frames: list[Frame], cause: str | None = None) -> StackLocation:
    app = [frame for frame in frames if not is_library(frame[0])]
    outermost = app[0] if app else next((frame for frame in frames if _is_packages(frame[0])), None)
    if cause is None:
        cause = location(app[-1] if len(app) > 1 else frames[-1])
    return StackLocation(location(outermost) if outermost is not None else None, cause)


def _is_packages(filename: str) -> bool:
    """Return whether a file belongs to an installed package that may have views."""
    if CONTRIB in filename:
        return True
    for directory in _package_directories():
        if filename.startswith(directory):
            package = filename[len(directory) :].partition(os.sep)[0].removesuffix(".py")
            return package not in HOSTS
    return False


def location(frame: Frame) -> str:
    """Return one frame as `file:line:function`."""
    filename, line, function = frame
    return f"{_short(filename)}:{line}:{function}"


def _short(filename: str) -> str:
    short = _shortened.get(filename)
    if short is None:
        entries = (os.path.join(os.path.abspath(entry), "") for entry in sys.path)
        longest = max((len(entry) for entry in entries if filename.startswith(entry)), default=0)
        short = _shortened[filename] = filename[longest:]
    return short


@functools.cache
def _package_directories() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    directories = {paths["purelib"], paths["platlib"]}
    directories.update(site.getsitepackages(), (site.getusersitepackages(),))
    directories.update(entry for entry in sys.path if entry.endswith("-packages"))
    # The longest first: a directory of packages may be below another one.
    return tuple(sorted(_with_real_paths(directories), key=len, reverse=True))


@functools.cache
def _library_roots() -> tuple[str, ...]:
    # Cached as a whole: several threads may ask at once.
    paths = sysconfig.get_paths()
    # Not `paths["data"]`: that is sys.prefix. With a system interpreter (/usr) an app in /usr/src/app
    # would count as a library.
    directories = {
        paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib", "scripts")
    }
    directories.update(site.getsitepackages(), (site.getusersitepackages(),))
    # Debian's interpreter has packages here, outside sysconfig's paths.
    directories.update(entry for entry in sys.path if entry.endswith("-packages"))
    directories.add(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    return tuple(_with_real_paths(directories))


def _with_real_paths(directories: Iterable[str]) -> Iterator[str]:
    for directory in directories:
        yield os.path.join(directory, "")
        yield os.path.join(os.path.realpath(directory), "")


_is_library: dict[str, bool] = {}
_shortened: dict[str, str] = {}
