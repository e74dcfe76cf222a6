"""Which frame of a stack is named: the app's, wherever the app is installed."""

from __future__ import annotations

import functools
import json
import os
import site
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from otel_canonical.event import logfmt
from otel_canonical.stacks import location
from otel_canonical.stacks.frames import linked
from otel_canonical.stacks.location import (
    LONGEST_CAUSE_CHAIN,
    Frame,
    StackLocation,
    _library_roots,
    as_frames,
    is_library,
    locate_error,
    locate_stack,
)

DEBIAN = {
    "stdlib": "/usr/lib/python3.11",
    "platstdlib": "/usr/lib/python3.11",
    "purelib": "/usr/local/lib/python3.11/dist-packages",
    "platlib": "/usr/local/lib/python3.11/dist-packages",
    "scripts": "/usr/local/bin",
    "data": "/usr",
}
#: A virtual environment made in the project's own directory: `python -m venv .`
PROJECT = {
    "stdlib": "/opt/python/lib/python3.11",
    "platstdlib": "/opt/python/lib/python3.11",
    "purelib": "/srv/shop/lib/python3.11/site-packages",
    "platlib": "/srv/shop/lib/python3.11/site-packages",
    "scripts": "/srv/shop/bin",
    "data": "/srv/shop",
}


@pytest.fixture(autouse=True)
def _nothing_remembered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for cache in ("_is_library", "_shortened"):
        monkeypatch.setattr(location, cache, {})
    for roots in (_library_roots, location._package_directories):
        roots.cache_clear()
    yield
    for roots in (_library_roots, location._package_directories):
        roots.cache_clear()


def live_in(monkeypatch: pytest.MonkeyPatch, paths: dict[str, str], *search_path: str) -> None:
    """Pretend that this interpreter is another one, elsewhere."""
    monkeypatch.setattr(sysconfig, "get_paths", lambda: paths)
    monkeypatch.setattr(site, "getsitepackages", lambda: [paths["purelib"]])
    monkeypatch.setattr(site, "getusersitepackages", lambda: "/home/ada/.local/lib/site-packages")
    monkeypatch.setattr(sys, "path", [*search_path, paths["stdlib"], paths["purelib"]])


def caller(filename: str, function: str, then: Callable[[], Any]) -> Callable[[], Any]:
    """Return a function of that name in that file, which calls `then` in its second line."""
    namespace: dict[str, Any] = {}
    source = f"def {function}(then):\n    return then()\n"
    exec(compile(source, filename, "exec"), namespace)
    return functools.partial(namespace[function], then)


def raiser(error: BaseException, cause: BaseException | None = None) -> Callable[[], Any]:
    """Return a function that raises, itself in a file that is no frame of the app's."""
    namespace: dict[str, Any] = {"error": error, "cause": cause}
    exec(compile("def raises():\n    raise error from cause\n", "<raiser>", "exec"), namespace)
    raises: Callable[[], Any] = namespace["raises"]
    return raises


def raised(call: Callable[[], Any]) -> BaseException:
    """Return what `call` raises, without the frame of this file."""
    with pytest.raises(BaseException) as caught:  # noqa: PT011  # any there is
        call()
    trace = caught.value.__traceback__
    assert trace is not None
    return caught.value.with_traceback(trace.tb_next)


@pytest.mark.parametrize(
    ("filename", "expected"),
    [
        ("/usr/src/app/shop/views.py", False),
        ("/usr/local/app/views.py", False),
        ("/usr/share/shop/views.py", False),
        ("/usr/lib/python3.11-shop/views.py", False),
        ("/app/views.py", False),
        ("views.py", False),
        ("/usr/lib/python3.11/json/decoder.py", True),
        ("/usr/lib/python3/dist-packages/django/shortcuts.py", True),
        ("/usr/local/lib/python3.11/dist-packages/django/shortcuts.py", True),
        ("/usr/local/bin/gunicorn", True),
        ("/home/ada/.local/lib/site-packages/django/shortcuts.py", True),
        ("<frozen importlib._bootstrap>", True),
        ("<string>", True),
    ],
)
def test_app_under_usr_is_app_when_python_is_the_systems(
    filename: str, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Debian's interpreter lives in /usr, as do apps in containers; only its libraries are some."""
    live_in(monkeypatch, DEBIAN, "/usr/src/app", "/usr/lib/python3/dist-packages")
    assert is_library(filename) == expected


@pytest.mark.parametrize(
    ("filename", "expected"),
    [
        ("/srv/shop/orders/views.py", False),
        ("/srv/shop/lib/pricing.py", False),
        ("/srv/shop/lib/python3.11/site-packages/django/shortcuts.py", True),
        ("/opt/python/lib/python3.11/asyncio/runners.py", True),
    ],
)
def test_app_beside_its_packages_is_app(
    filename: str, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A virtual environment in the project's own directory makes no library of the project."""
    live_in(monkeypatch, PROJECT, "/srv/shop")
    assert is_library(filename) == expected


def test_files_of_this_interpreter_are_told_apart() -> None:
    """The standard library, an installed package, our own package; and this test, an app."""
    assert is_library(json.__file__)
    assert is_library(pytest.__file__)
    assert is_library(str(logfmt.__file__))
    assert not is_library(__file__)


def test_library_is_one_for_who_asks_while_the_roots_are_first_looked_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The watchdog's first look at a stack beside a request's first exception: seen, once."""
    real_path = os.path.realpath
    answers = []

    def ask_meanwhile(path: str) -> str:
        if not answers:
            answers.append(None)
            asking = threading.Thread(target=lambda: answers.append(is_library(pytest.__file__)))
            asking.start()
            asking.join()
        return real_path(path)

    monkeypatch.setattr(os.path, "realpath", ask_meanwhile)
    assert is_library(json.__file__)
    assert answers == [None, True]
    assert is_library(pytest.__file__)


def test_packages_are_libraries_when_reached_through_a_link(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    """`lib64` is a link to `lib`: a file is the same by either name."""
    packages = tmp_path / "lib" / "site-packages"
    packages.mkdir(parents=True)
    (tmp_path / "lib64").symlink_to(tmp_path / "lib")
    linked = str(tmp_path / "lib64" / "site-packages")
    live_in(monkeypatch, {**PROJECT, "purelib": linked, "platlib": linked})
    assert is_library(f"{linked}/django/shortcuts.py")
    assert is_library(f"{packages}/django/shortcuts.py")


@pytest.fixture
def in_usr(monkeypatch: pytest.MonkeyPatch) -> None:
    """An app in /usr/src/app under Debian's interpreter."""
    live_in(monkeypatch, DEBIAN, "/usr/src/app")


DJANGO = "/usr/local/lib/python3.11/dist-packages/django"


def test_location_is_apps_outermost_and_innermost_frame(in_usr: None) -> None:
    """Between libraries, the first and the last frame of the app."""
    raises = raiser(ValueError())
    deep = caller(f"{DJANGO}/db/query.py", "execute", raises)
    inner = caller("/usr/src/app/shop/prices.py", "price", deep)
    between = caller(f"{DJANGO}/utils/functional.py", "__get__", inner)
    view = caller("/usr/src/app/shop/views.py", "view", between)
    error = raised(caller(f"{DJANGO}/core/handlers/base.py", "_get_response", view))
    assert locate_error(error) == StackLocation("shop/views.py:2:view", "shop/prices.py:2:price")


def test_cause_is_where_it_was_raised_when_app_has_one_frame(in_usr: None) -> None:
    """With one app frame, that is the location, and the cause is where the library raised."""
    decode = caller("/usr/lib/python3.11/json/decoder.py", "raw_decode", raiser(ValueError()))
    view = caller("/usr/src/app/shop/views.py", "view", decode)
    error = raised(caller(f"{DJANGO}/core/handlers/base.py", "_get_response", view))
    located = locate_error(error)
    assert located is not None
    assert located == StackLocation("shop/views.py:2:view", "<raiser>:2:raises")


def test_no_location_but_a_cause_when_only_django_has_frames(in_usr: None) -> None:
    """Where it was raised is worth knowing; Django's line is not where to look first."""
    inner = caller(f"{DJANGO}/http/request.py", "get_host", raiser(ValueError()))
    error = raised(caller(f"{DJANGO}/middleware/common.py", "process_request", inner))
    assert locate_error(error) == StackLocation(None, "<raiser>:2:raises")


PACKAGES = "/usr/local/lib/python3.11/dist-packages"
SCRIPT = ("/usr/local/bin/gunicorn", 6, "<module>")
SERVED = [SCRIPT, (f"{PACKAGES}/gunicorn/workers/sync.py", 2, "handle_request")]
MODULE = [("/usr/lib/python3.11/runpy.py", 1, "_run_code"), *SERVED[1:]]
DISPATCHED = [*SERVED, (f"{DJANGO}/core/handlers/base.py", 4, "_get_response")]
GUNICORNS = (f"{PACKAGES}/gunicorn/arbiter.py", 7, "reload")
MIDDLEWARE = ("/usr/src/app/shop/middleware.py", 3, "__call__")
OSCAR = (f"{PACKAGES}/oscar/views.py", 7, "basket")
ADMIN = (f"{DJANGO}/contrib/admin/options.py", 8, "changelist_view")
SLEEPS = ("/usr/lib/python3.11/ssl.py", 9, "read")
SENDS = ("/usr/lib/python3.11/socket.py", 3, "sendall")


@pytest.mark.parametrize(
    ("stack", "loc", "cause"),
    [
        ([*DISPATCHED, OSCAR, SLEEPS], "oscar/views.py:7:basket", "ssl.py:9:read"),
        (
            [*SERVED, MIDDLEWARE, DISPATCHED[-1], OSCAR, SLEEPS],
            *("oscar/views.py:7:basket", "ssl.py:9:read"),
        ),
        ([*DISPATCHED, ADMIN], "django/contrib/admin/options.py:8:changelist_view", "view"),
        ([*DISPATCHED, (f"{DJANGO}/views/generic/base.py", 1, "view")], None, "base.py:1:view"),
        (
            [*SERVED, (f"{PACKAGES}/gunicorn/util.py", 1, "write"), SENDS],
            None,
            "writing to the client",
        ),
        (
            [*MODULE, (f"{PACKAGES}/gunicorn/http/wsgi.py", 1, "sendfile"), SENDS],
            *(None, "writing to the client"),
        ),
        (
            [*DISPATCHED, OSCAR, (f"{PACKAGES}/gunicorn/http/body.py", 1, "read")],
            *("oscar/views.py:7:basket", "reading the body"),
        ),
        (
            [("/usr/src/app/serve.py", 1, "<module>"), *SERVED, SENDS],
            *(None, "socket.py:3:sendall"),
        ),
        (
            [(f"{PACKAGES}/uvicorn/protocols/http/flow_control.py", 1, "drain")],
            *(None, "writing to the client"),
        ),
        (
            [
                (f"{PACKAGES}/otel_canonical/servers/asgi.py", 1, "_serve"),
                (f"{PACKAGES}/channels/routing.py", 2, "__call__"),
            ],
            *("channels/routing.py:2:__call__", "channels/routing.py:2:__call__"),
        ),
        (
            [("/usr/src/app/shop.pyz/shop/views.py", 1, "view")],
            "shop.pyz/shop/views.py:1:view",
            "view",
        ),
        ([SCRIPT], None, "gunicorn:6:<module>"),
        # Names of the app's that look like the framework's, or the server's.
        (
            [*SERVED, MIDDLEWARE, ("/usr/src/app/shop/handler.py", 5, "_get_response"), SLEEPS],
            *("shop/middleware.py:3:__call__", "shop/handler.py:5:_get_response"),
        ),
        (
            [*SERVED, MIDDLEWARE, (f"{DJANGO}/core/handlers/base.py", 4, "adapt"), SLEEPS],
            *("shop/middleware.py:3:__call__", "ssl.py:9:read"),
        ),
        (
            [*SERVED, ("/usr/src/app/gunicorn/hooks.py", 5, "wraps"), MIDDLEWARE],
            *("gunicorn/hooks.py:5:wraps", "shop/middleware.py:3:__call__"),
        ),
        (
            [*SERVED, ("/usr/lib/python3.11/contextlib.py", 5, "inner"), MIDDLEWARE, SLEEPS],
            *("shop/middleware.py:3:__call__", "ssl.py:9:read"),
        ),
        # A hook in gunicorn.conf.py that calls Gunicorn again.
        (
            [*SERVED, ("/usr/src/app/gunicorn.conf.py", 5, "post_request"), GUNICORNS],
            *(None, "gunicorn/arbiter.py:7:reload"),
        ),
        ([(f"{PACKAGES}/single.py", 2, "view")], "single.py:2:view", "single.py:2:view"),
        ([(f"{PACKAGES}/uvloop.py", 2, "run")], None, "uvloop.py:2:run"),
    ],
)
def test_running_request_is_named_by_what_may_be_named(
    stack: list[Frame], loc: str | None, cause: str, in_usr: None
) -> None:
    """The app's frame, else the outermost of the view's package; never the server's or Django's."""
    located = locate_stack(stack)
    assert located is not None
    assert located.loc == loc
    assert located.cause_loc.endswith(cause)


def test_package_is_known_in_a_directory_of_packages_below_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is named by the innermost one: here the server's loop, which is no view."""
    vendored = f"{PROJECT['purelib']}/shop/vendored-packages"
    live_in(monkeypatch, PROJECT, vendored)
    located = locate_stack([(f"{vendored}/uvloop/loop.py", 2, "run")])
    assert located == StackLocation(None, "uvloop/loop.py:2:run")


def test_frame_of_ours_is_no_location_of_an_error(in_usr: None) -> None:
    """Channels has no route: the exception passes our frames first."""
    route = caller(f"{PACKAGES}/channels/routing.py", "route", raiser(ValueError()))
    ours = caller(f"{PACKAGES}/otel_canonical/servers/asgi.py", "_serve", route)
    located = locate_error(raised(ours))
    assert located is not None
    assert located.loc == "channels/routing.py:2:route"


def test_no_location_when_error_was_never_raised() -> None:
    """An exception object without a traceback has been nowhere."""
    assert locate_error(ValueError()) is None


def test_cause_is_root_of_chain(in_usr: None) -> None:
    """`raise ... from`: the outer error says where it could be handled, the root where it began."""
    root = raised(caller("/usr/src/app/shop/db.py", "connect", raiser(OSError())))
    middle = raised(caller("/usr/src/app/shop/stock.py", "look_up", raiser(KeyError(), root)))
    view = caller("/usr/src/app/shop/views.py", "view", raiser(ValueError(), middle))
    located = locate_error(raised(view))
    assert located is not None
    assert located.loc == "shop/views.py:2:view"
    assert located.cause_loc == "<raiser>:2:raises"  # one app frame: where it was raised


def test_cause_is_innermost_app_frame_of_root(in_usr: None) -> None:
    """With several app frames in the root's own stack, its innermost one."""
    connect = caller("/usr/src/app/shop/db.py", "connect", raiser(OSError()))
    root = raised(caller("/usr/src/app/shop/stock.py", "look_up", connect))
    view = caller("/usr/src/app/shop/views.py", "view", raiser(ValueError(), root))
    assert locate_error(raised(view)) == StackLocation(
        "shop/views.py:2:view", "shop/db.py:2:connect"
    )


def test_cause_is_own_when_root_was_never_raised(in_usr: None) -> None:
    """`raise A from B()`, where B was only made: the place is A's."""
    price = caller("/usr/src/app/shop/prices.py", "price", raiser(ValueError(), KeyError()))
    view = caller("/usr/src/app/shop/views.py", "view", price)
    assert locate_error(raised(view)) == StackLocation(
        "shop/views.py:2:view", "shop/prices.py:2:price"
    )


@pytest.mark.parametrize("length", [1, 2, 3, LONGEST_CAUSE_CHAIN])
def test_chain_ends_when_it_is_a_circle(in_usr: None, length: int) -> None:
    """Python lets `__cause__` go round; the location is one of the circle's."""
    errors = [
        raised(caller(f"/usr/src/app/shop/e{n}.py", "fails", raiser(ValueError())))
        for n in range(length)
    ]
    for error, cause in zip(errors, [*errors[1:], errors[0]], strict=True):
        error.__cause__ = cause
    located = locate_error(errors[0])
    assert located is not None
    assert located.loc == "shop/e0.py:2:fails"


def test_chain_is_cut_when_it_is_endless(in_usr: None) -> None:
    """A very long chain has a location all the same, that of where it was cut."""
    error: BaseException | None = None
    for n in range(10 * LONGEST_CAUSE_CHAIN):
        error = raised(caller(f"/usr/src/app/shop/e{n}.py", "fails", raiser(ValueError(), error)))
    assert error is not None
    assert locate_error(error) is not None


def test_file_is_shown_as_it_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Below the longest entry of `sys.path` that holds it; in full when none does."""
    live_in(monkeypatch, DEBIAN, "/usr/src", "/usr/src/app", "")
    for filename, shown in (
        ("/usr/src/app/shop/views.py", "shop/views.py"),
        ("/usr/src/other/views.py", "other/views.py"),
        ("/elsewhere/views.py", "/elsewhere/views.py"),
        (os.path.join(os.getcwd(), "views.py"), "views.py"),
        ("<frozen runpy>", "<frozen runpy>"),
    ):
        assert location.location((filename, 7, "view")) == f"{shown}:7:view"


def test_running_stack_is_read_from_outermost_to_innermost() -> None:
    """A frame's stack, in the order of a traceback, its last frame the given one."""
    seen: list[list[Frame]] = []

    def look() -> None:
        seen.append(as_frames(linked(sys._getframe())))

    caller("/app/outer.py", "outer", caller("/app/inner.py", "inner", look))()
    names = [(os.path.basename(filename), function) for filename, _, function in seen[0]]
    assert names[-3:] == [
        ("outer.py", "outer"),
        ("inner.py", "inner"),
        (os.path.basename(__file__), "look"),
    ]


def test_frame_without_a_line_is_shown_with_line_0() -> None:
    """Code that a program has made may have no table of lines; then Python says None."""
    seen: list[list[Frame]] = []

    def look() -> None:
        seen.append(as_frames(linked(sys._getframe(1))))

    names: dict[str, Any] = {"look": look}
    exec(compile("def made():\n    look()\n", "/app/made.py", "exec"), names)
    names["made"].__code__ = names["made"].__code__.replace(co_linetable=b"")
    names["made"]()
    assert seen[0][-1] == ("/app/made.py", 0, "made")


def test_view_is_named_when_stack_has_middleware_below(in_usr: None) -> None:
    """Of a running request the view is named, not the app's middleware that called Django."""
    handler = f"{DJANGO}/core/handlers/base.py"
    stack = [
        ("/usr/src/app/manage.py", 1, "<module>"),
        ("/usr/local/lib/python3.11/dist-packages/gunicorn/workers/sync.py", 2, "handle_request"),
        ("/usr/src/app/shop/middleware.py", 3, "__call__"),
        (handler, 4, "_get_response"),
        ("/usr/src/app/shop/views.py", 5, "view"),
        ("/usr/src/app/shop/prices.py", 6, "price"),
        ("/usr/lib/python3.11/ssl.py", 7, "read"),
    ]
    assert locate_stack(stack) == StackLocation("shop/views.py:5:view", "shop/prices.py:6:price")
    assert locate_stack(stack[:3]) == StackLocation(
        "shop/middleware.py:3:__call__", "shop/middleware.py:3:__call__"
    )
    assert locate_stack([]) is None


def test_nothing_is_imported_but_the_standard_library() -> None:
    """Naming a frame imports no framework."""
    code = (
        "import sys; from otel_canonical.stacks import location as s; s.is_library('x');"
        "print([n for n in ('django', 'gunicorn', 'opentelemetry.sdk') if n in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"
