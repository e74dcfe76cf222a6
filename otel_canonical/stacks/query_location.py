"""Which line of the app asked for the query that runs now. Pure: it looks at frames only.

The innermost frame of the app is the line that a developer would change. In a template it is the
template's line, followed by the line of the app that rendered it: `shop/list.html:12 < shop/views.py:9:show`.
A view of an installed package has no frame of the app: there it is the innermost line of the view's own
package, not of a library that the package uses. An async view awaits a query that a thread runs: there the
awaiting task is looked at.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from types import CodeType, FrameType
from typing import Any

from otel_canonical.stacks.frames import frame_of, locals_of
from otel_canonical.stacks.location import DISPATCHER_FILE, DISPATCHERS, is_library, location
from otel_canonical.stacks.running import iterated

#: Packages that run queries for somebody else: never the line that is looked for.
PLUMBING = frozenset(
    """django asgiref psycopg psycopg_pool psycopg2 MySQLdb pymysql mysql oracledb sqlite3
    opentelemetry otel_canonical wrapt gunicorn uvicorn uvicorn_worker gevent greenlet jinja2 rest_framework
    threading concurrent asyncio""".split()
)

#: Named if nothing else can be: a view that the app has only configured.
FRAMEWORKS = (
    "django.views.",
    "django.contrib.",
    "rest_framework.mixins",
    "rest_framework.generics",
)

#: Installed packages are below a directory with such a name, the standard library is not.
PACKAGES = "-packages"

#: Code that is never named, by its id: hashing code reads all of it. It is kept, so that ids are not
#: used again.
_passed: dict[int, CodeType] = {}
MOST_PASSED = 4096

#: By the text of a query: how far out the line of code was that asked for it, its code and instruction,
#: and its location.
_located: dict[str, tuple[int, CodeType, int, str | None]] = {}
MOST_LOCATED = 512

#: A stack deeper than this is not followed further.
MOST_FRAMES = 1000
#: More tasks than this are not searched for the one that awaits.
MOST_TASKS = 500


class _Places:
    """What was found so far, from the innermost frame on."""

    __slots__ = ("app", "app_template", "framework", "inside", "packages", "template", "view")

    def __init__(self) -> None:
        self.app: str | None = None
        self.app_template: str | None = None
        self.template: str | None = None
        #: Of each installed package its innermost frame, the innermost package first.
        self.packages: dict[str, FrameType] = {}
        #: The packages that the template's line has called: they are nearer to the query than it is.
        self.inside: tuple[str, ...] = ()
        self.framework: str | None = None
        #: The package of the view.
        self.view = ""

    def is_line_of_code(self) -> bool:
        """Return whether the location is a line of the app's code, and nothing else has a say in it."""
        return self.app is not None and self.app_template is None and self.template is None

    def text(self) -> str | None:
        """Return the location, None if there is none to name."""
        caller, is_nearer = self.app, bool(self.inside)
        if caller is None and self.packages:
            package = self.view if self.view in self.packages else next(iter(self.packages))
            caller = _location(self.packages[package])
            is_nearer = package in self.inside
        template = self.app_template or (None if is_nearer else self.template)
        if template is None:
            return caller or self.framework
        return template if caller is None else f"{template} < {caller}"


def locate(text: str | None = None) -> str | None:
    """Return the line that asked for the query which this thread runs, None if no frame tells.

    Args:
        text: of the query, if what was found for it before may be returned again. To look at a frame makes
            an object of it, twenty of them for a query of Django's. So it is remembered how far out the
            app's line was; if the same instruction is there again, it is what asks again.
    """
    known = _located.get(text) if text is not None else None
    if known is not None:
        depth, code, instruction, found = known
        try:
            again = sys._getframe(depth)
        except ValueError:  # the stack is less deep
            pass
        else:
            if again.f_code is code and again.f_lasti == instruction:
                return found
    places = _Places()
    awaited: FrameType | None = None
    frame: FrameType | None = sys._getframe(1)
    depth = 1
    while frame is not None and depth <= MOST_FRAMES:
        code = frame.f_code
        if id(code) not in _passed:
            if code.co_name == "thread_handler" and _package_of(frame) == "asgiref":
                awaited = frame
                break
            if _is_found(frame, places):
                break
        frame = frame.f_back
        depth += 1
    if text is not None and frame is not None and places.is_line_of_code():
        if len(_located) >= MOST_LOCATED:
            _located.clear()
        _located[text] = depth, frame.f_code, frame.f_lasti, places.app
    if places.app is None and awaited is not None:
        for frame in _awaiting(awaited):
            if not is_library(frame.f_code.co_filename):
                places.app = _location(frame)
                break
    return places.text()


def _is_found(frame: FrameType, places: _Places) -> bool:
    """Take note of one frame; return whether the search ends with it."""
    code = frame.f_code
    name = code.co_name
    if not is_library(code.co_filename):
        jinja = frame.f_globals.get("__jinja_template__")
        if jinja is not None:
            _note_template(
                places, f"{jinja.name}:{jinja.get_corresponding_lineno(frame.f_lineno)}", True
            )
            return False
        places.app = _location(frame)
        return True
    if name == "render_annotated" and places.app_template is None:
        node = frame.f_locals.get("self")
        origin, token = getattr(node, "origin", None), getattr(node, "token", None)
        if origin is not None and token is not None:
            line = f"{origin.template_name or origin.name}:{token.lineno}"
            _note_template(places, line, not is_library(str(origin.name)))
            return False
    if name in DISPATCHERS and code.co_filename.endswith(DISPATCHER_FILE):
        # What is further out is middleware and the server: they did not ask for what the view asks.
        if places.packages:
            # Decorators that keep the view's name keep its module, too.
            view = frame.f_locals.get("callback")
            places.view = str(getattr(view, "__module__", "")).partition(".")[0]
        return True
    if PACKAGES in code.co_filename:
        package = _package_of(frame)
        if package not in PLUMBING:
            places.packages.setdefault(package, frame)
            return False
        if frame.f_globals["__name__"].startswith(FRAMEWORKS):
            if places.framework is None:
                places.framework = _location(frame)
            return False
    if name != "render_annotated":
        if len(_passed) >= MOST_PASSED:
            _passed.clear()
        _passed[id(code)] = code
    return False


def _note_template(places: _Places, line: str, is_app: bool) -> None:
    if is_app:
        if places.app_template is None:
            places.app_template = line
    elif places.template is None:
        places.template, places.inside = line, tuple(places.packages)


def _location(frame: FrameType) -> str:
    return location((frame.f_code.co_filename, frame.f_lineno or 0, frame.f_code.co_name))


def _package_of(frame: FrameType) -> str:
    name: str = frame.f_globals.get("__name__") or ""
    return name.partition(".")[0]


def _awaiting(handler: FrameType) -> list[FrameType]:
    """Return the frames of the task that awaits a thread, the innermost first.

    Args:
        handler: asgiref's frame in the thread. It shares a list with the coroutine that awaits.
    """
    loop, shared = handler.f_locals.get("loop"), handler.f_locals.get("task_context")
    if loop is None or shared is None:
        return []
    for task in list(asyncio.all_tasks(loop))[:MOST_TASKS]:
        frames = list(_frames_of(task.get_coro()))
        if frames and locals_of(frames[-1]).get("task_context") is shared:
            return frames[::-1]
    return []


def _frames_of(awaited: Any) -> Iterator[FrameType]:
    """Yield the frames of a task, from its coroutine to the one that waits."""
    for _ in range(MOST_FRAMES):
        awaited = iterated(awaited)
        kind = "ag" if hasattr(awaited, "ag_await") else "cr"
        frame = frame_of(awaited, f"{kind}_frame")
        if frame is None:
            return
        yield frame
        awaited = getattr(awaited, f"{kind}_await")
