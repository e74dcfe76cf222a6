"""The line that asked for a query: the app's innermost, a template's with its caller, a package's, a view's."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.template import Context, Engine
from django.template.loaders.locmem import Loader

from otel_canonical.stacks import location, query_location
from otel_canonical.stacks.query_location import locate

PACKAGES = "/venv/lib/site-packages"


@pytest.fixture(autouse=True)
def _app_is_below_srv(monkeypatch: pytest.MonkeyPatch) -> None:
    def is_library(filename: str) -> bool:
        return not filename.startswith(("/srv/", "p.html"))

    monkeypatch.setattr(query_location, "is_library", is_library)
    monkeypatch.setattr(location, "_shortened", {})
    monkeypatch.setattr(query_location, "_passed", {})


def within(filename: str, module: str, function: str, then: Callable[[], Any]) -> Callable[[], Any]:
    """Return a function of a file that calls another one."""
    namespace: dict[str, Any] = {"then": then, "__name__": module}
    source = f"def {function}():\n    return then()\n"
    exec(compile(source, filename, "exec"), namespace)
    found: Callable[[], Any] = namespace[function]
    return found


def asked_by(*frames: tuple[str, str, str]) -> str | None:
    """Return what is named of a stack of files, modules and functions, the outermost first."""
    call: Callable[[], Any] = locate
    for filename, module, function in reversed(frames):
        call = within(filename, module, function, call)
    found: str | None = call()
    return found


APP = ("/srv/shop/views.py", "shop.views", "show")
MODEL = ("/srv/shop/models.py", "shop.models", "price")
ORM = (f"{PACKAGES}/django/db/models/query.py", "django.db.models.query", "get")
DISPATCHER = (
    f"{PACKAGES}/django/core/handlers/base.py",
    "django.core.handlers.base",
    "_get_response",
)
MIDDLEWARE = ("/srv/shop/middleware.py", "shop.middleware", "__call__")
OSCAR = (f"{PACKAGES}/oscar/views.py", "oscar.views", "basket")
OSCARS = (f"{PACKAGES}/oscar/models.py", "oscar.models", "lines")
GENERIC = (f"{PACKAGES}/django/views/generic/list.py", "django.views.generic.list", "get")
STANDARD = ("/usr/lib/python3.11/functools.py", "functools", "wrapper")


@pytest.mark.parametrize(
    ("frames", "named"),
    [
        ((APP, MODEL, ORM), "/srv/shop/models.py:2:price"),
        ((APP, ORM), "/srv/shop/views.py:2:show"),
        ((APP, OSCAR, ORM), "/srv/shop/views.py:2:show"),
        ((MIDDLEWARE, DISPATCHER, APP, ORM), "/srv/shop/views.py:2:show"),
        ((MIDDLEWARE, DISPATCHER, OSCAR, OSCARS, ORM), f"{PACKAGES}/oscar/models.py:2:lines"),
        ((MIDDLEWARE, DISPATCHER, GENERIC, ORM), f"{PACKAGES}/django/views/generic/list.py:2:get"),
        ((MIDDLEWARE, DISPATCHER, OSCAR, GENERIC, ORM), f"{PACKAGES}/oscar/views.py:2:basket"),
        ((MIDDLEWARE, DISPATCHER, ORM), None),
        ((MIDDLEWARE, ORM), "/srv/shop/middleware.py:2:__call__"),
        ((DISPATCHER, STANDARD, ORM), None),
        # Names like that of Django's function that calls the view, or its file.
        ((APP, (OSCAR[0], OSCAR[1], "_get_response"), ORM), "/srv/shop/views.py:2:show"),
        ((MIDDLEWARE, (*DISPATCHER[:2], "adapt"), ORM), "/srv/shop/middleware.py:2:__call__"),
    ],
)
def test_line_is_the_one_that_a_developer_would_change(
    frames: tuple[tuple[str, str, str], ...], named: str | None
) -> None:
    """The app's innermost; without one the package's innermost; middleware did not ask for a view's query."""
    assert asked_by(*frames) == named
    # Again: what was passed over once is passed over quickly from then on.
    assert asked_by(*frames) == named


def test_line_that_is_unknown_is_0() -> None:
    """Code that a program has made may have no table of lines."""
    made = within(*APP, locate)
    made.__code__ = made.__code__.replace(co_linetable=b"")  # type: ignore[attr-defined]
    assert made() == "/srv/shop/views.py:0:show"


@pytest.mark.parametrize("package", sorted(query_location.PLUMBING - {"django", "otel_canonical"}))
def test_plumbing_is_never_named(package: str) -> None:
    """It runs queries for somebody else."""
    plumbing = (f"{PACKAGES}/{package}/cursor.py", f"{package}.cursor", "execute")
    assert asked_by(APP, plumbing) == "/srv/shop/views.py:2:show"
    assert asked_by(DISPATCHER, plumbing) is None


@pytest.mark.parametrize("module", query_location.FRAMEWORKS)
def test_view_that_the_app_only_configured_is_named_if_nothing_else_can_be(module: str) -> None:
    """The innermost of a framework's."""
    outer = (f"{PACKAGES}/framework/outer.py", f"{module}outer", "dispatch")
    inner = (f"{PACKAGES}/framework/inner.py", f"{module}inner", "get_queryset")
    assert (
        asked_by(DISPATCHER, outer, inner, ORM) == f"{PACKAGES}/framework/inner.py:2:get_queryset"
    )


class Asks:
    """What a template looks up: a query."""

    def __init__(self) -> None:
        self.locations: list[str | None] = []

    @property
    def price(self) -> str:
        """Ask the database."""
        self.locations.append(locate())
        return ""


def engine(**templates: str) -> Engine:
    """Return an engine with templates by name; the app's lie below /srv, others don't."""
    loaded = Engine(loaders=[("django.template.loaders.locmem.Loader", templates)])
    assert isinstance(loaded.template_loaders[0], Loader)
    return loaded


def rendered(templates: dict[str, str], first: str) -> str | None:
    """Return what is named of the one query of a page that the app's view renders."""
    asks = Asks()
    found = engine(**templates).get_template(first)
    within(*APP, lambda: found.render(Context({"it": asks})))()
    [named] = asks.locations
    return named


def test_line_of_a_template_is_named_with_the_line_that_rendered_it() -> None:
    """The innermost template: the included part, not the page."""
    page = {"p.html": "\n{{ it.price }}"}
    assert rendered(page, "p.html") == "p.html:2 < /srv/shop/views.py:2:show"
    parts = {"p.html": "{% include 'p.html2' %}", "p.html2": "\n\n{{ it.price }}"}
    assert rendered(parts, "p.html") == "p.html2:3 < /srv/shop/views.py:2:show"


def test_template_of_the_app_goes_before_that_of_a_package() -> None:
    """A package's widget in the app's page: the app's line is what can be changed."""
    parts = {"p.html": "\n{% include 'theirs' %}", "theirs": "{{ it.price }}"}
    assert rendered(parts, "p.html") == "p.html:2 < /srv/shop/views.py:2:show"
    assert (
        rendered({"theirs": "{{ it.price }}"}, "theirs") == "theirs:1 < /srv/shop/views.py:2:show"
    )


def test_template_is_named_alone_where_no_caller_can_be() -> None:
    """Django's own view renders the app's template."""
    asks = Asks()
    found = engine(**{"p.html": "{{ it.price }}"}).get_template("p.html")
    within(*DISPATCHER, lambda: found.render(Context({"it": asks})))()
    assert asks.locations == ["p.html:1"]


@pytest.mark.parametrize(
    ("function", "token", "named"),
    [
        ("render_annotated", SimpleNamespace(lineno=3), "p.html:3 < /srv/shop/views.py:2:show"),
        # A node that an app has made by itself.
        ("render_annotated", None, "/srv/shop/views.py:2:show"),
        # Something else that has a token and an origin, such as a log-in.
        ("get", SimpleNamespace(lineno=3), "/srv/shop/views.py:2:show"),
    ],
)
def test_template_is_what_renders_a_node_of_it(function: str, token: object, named: str) -> None:
    """And nothing that looks like one."""
    names: dict[str, Any] = {"locate": locate, "__name__": "django.template.base"}
    source = f"def {function}(self):\n    return locate()\n"
    exec(compile(source, f"{PACKAGES}/django/template/base.py", "exec"), names)
    origin = SimpleNamespace(template_name="p.html", name="p.html")
    node = SimpleNamespace(origin=origin, token=token)
    assert within(*APP, lambda: names[function](node))() == named


def test_template_of_jinja_is_named() -> None:
    """By its own table of lines; before a package's code that it calls."""
    template = SimpleNamespace(name="list.html", get_corresponding_lineno=lambda line: line + 40)
    namespace: dict[str, Any] = {"__name__": "x", "__jinja_template__": template}
    exec(compile("def root():\n    return then()\n", "/srv/templates/list.html", "exec"), namespace)
    for asks in (locate, within(*OSCAR, locate)):
        namespace["then"] = asks
        assert within(*APP, namespace["root"])() == "list.html:42 < /srv/shop/views.py:2:show"


def test_async_view_that_awaits_the_thread_is_named() -> None:
    """The query runs in a thread; the line is the coroutine's."""
    source = "async def view():\n    return await ask()\n"

    async def ask() -> str | None:
        is_awaited = threading.Event()
        asyncio.get_running_loop().call_soon(is_awaited.set)

        def query() -> str | None:
            assert is_awaited.wait(10)
            return locate()

        found: str | None = await sync_to_async(within(*ORM, query))()
        return found

    namespace: dict[str, Any] = {"ask": ask, "__name__": "shop.views"}
    exec(compile(source, "/srv/shop/async_views.py", "exec"), namespace)

    async def main() -> list[str | None]:
        others = [asyncio.ensure_future(asyncio.sleep(0.01)) for _ in range(3)]
        found = await asyncio.gather(namespace["view"](), namespace["view"]())
        await asyncio.gather(*others)
        return list(found)

    assert asyncio.run(main()) == ["/srv/shop/async_views.py:2:view"] * 2


def test_async_view_that_awaits_the_thread_by_itself_is_named() -> None:
    """Its own line is the innermost."""
    source = "async def view():\n    return await ask()\n"

    async def main() -> str | None:
        loop = asyncio.get_running_loop()

        def query() -> str | None:
            is_awaited = threading.Event()
            loop.call_soon_threadsafe(is_awaited.set)
            assert is_awaited.wait(10)
            return locate()

        namespace: dict[str, Any] = {"ask": sync_to_async(within(*ORM, query))}
        exec(compile(source, "/srv/shop/async_views.py", "exec"), namespace)
        found: str | None = await asyncio.ensure_future(namespace["view"]())
        return found

    assert asyncio.run(main()) == "/srv/shop/async_views.py:2:view"


@pytest.mark.parametrize("known", ["loop", "task_context", "neither"])
def test_nothing_is_named_where_it_is_unknown_which_task_awaits(known: str) -> None:
    """Another version of asgiref may call these two something else."""
    source = f"def thread_handler({known}):\n    return locate()\n"
    names: dict[str, Any] = {"locate": locate, "__name__": "asgiref.sync"}
    exec(compile(source, f"{PACKAGES}/asgiref/sync.py", "exec"), names)
    other: dict[str, Any] = {"wait": asyncio.sleep}
    exec(compile("async def view():\n    await wait(60)\n", APP[0], "exec"), other)

    async def main() -> list[str | None]:
        task = asyncio.ensure_future(other["view"]())
        await asyncio.sleep(0)
        value = asyncio.get_running_loop() if known == "loop" else []
        # As in a thread: no loop runs there.
        found: list[str | None] = []
        thread = threading.Thread(target=lambda: found.append(names["thread_handler"](value)))
        thread.start()
        thread.join()
        task.cancel()
        return found

    assert asyncio.run(main()) == [None]


def test_async_view_that_iterates_over_rows_is_named() -> None:
    """Its own line, not that of another request that iterates at that moment."""
    source = "async def view():\n    async for row in rows():\n        return row\n"
    done: list[asyncio.Event] = []

    async def rows() -> AsyncIterator[str | None]:
        is_awaited = threading.Event()
        asyncio.get_running_loop().call_soon(is_awaited.set)

        def query() -> str | None:
            assert is_awaited.wait(10)
            return locate()

        yield await sync_to_async(within(*ORM, query))()

    async def others_rows() -> AsyncIterator[str | None]:
        await done[0].wait()
        yield None

    def view(file: str, rows: Callable[[], AsyncIterator[str | None]]) -> Any:
        namespace: dict[str, Any] = {"rows": rows, "__name__": "shop.views"}
        exec(compile(source, f"/srv/shop/{file}", "exec"), namespace)
        return namespace["view"]()

    async def main() -> str | None:
        done.append(asyncio.Event())
        others = [asyncio.ensure_future(view("other.py", others_rows)) for _ in range(20)]
        found: str | None = await asyncio.ensure_future(view("mine.py", rows))
        done[0].set()
        await asyncio.gather(*others)
        return found

    assert asyncio.run(main()) == "/srv/shop/mine.py:2:view"


def test_deep_stack_is_followed_as_far_as_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """A recursion of thousands costs no more; what is beyond is not named."""
    monkeypatch.setattr(query_location, "MOST_FRAMES", 10)
    for depth, named in ((9, "/srv/shop/views.py:2:show"), (10, None), (20, None)):
        frames = [APP, *((f"{PACKAGES}/django/x.py", "django.x", f"f{n}") for n in range(depth))]
        assert asked_by(*frames) == named


def test_code_that_is_passed_over_is_remembered_up_to_a_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Code that comes again is looked at once; an app that makes code fills no memory."""
    monkeypatch.setattr(query_location, "MOST_PASSED", 5)
    sizes = []
    for _ in range(12):
        asked_by(APP, ORM)
        sizes.append(len(query_location._passed))
    assert max(sizes) <= 5
    assert sizes.count(5) >= 2


def test_line_that_asked_before_is_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a look at the frames in between; another instruction is looked for anew."""
    looks: list[Any] = []
    is_found = query_location._is_found

    def look(frame: Any, places: Any) -> bool:
        looks.append(frame.f_code.co_name)
        return is_found(frame, places)

    monkeypatch.setattr(query_location, "_is_found", look)
    monkeypatch.setattr(query_location, "_located", {})
    names: dict[str, Any] = {"locate": query_location.locate, "__name__": "shop.views"}
    source = "def show(text):\n    first = locate(text)\n    second = locate(text)\n    return first, second\n"
    exec(compile(source, "/srv/shop/views.py", "exec"), names)
    first, second = "/srv/shop/views.py:2:show", "/srv/shop/views.py:3:show"
    assert names["show"]("SELECT 1") == (first, second)
    assert looks == ["show", "show"]
    names["locate"] = lambda text: query_location.locate(text)  # one frame more
    assert names["show"]("SELECT 1") == (first, second)
    # Each line by a text of its own: both are known from the second time on.
    looks.clear()
    names["locate"] = query_location.locate
    for _ in range(3):
        assert names["show"]("SELECT 2")[1] == second
    assert len(looks) == 6
    asked = within(*APP, lambda: query_location.locate("SELECT 3"))
    looks.clear()
    assert {asked() for _ in range(3)} == {"/srv/shop/views.py:2:show"}
    assert looks.count("show") == 1


def test_line_of_a_template_is_looked_for_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The code that renders it is the same for all of its lines."""
    monkeypatch.setattr(query_location, "_located", {})
    asks = Asks()
    monkeypatch.setitem(globals(), "locate", lambda: query_location.locate("SELECT 1"))
    found = engine(**{"p.html": "{{ it.price }}\n{{ it.price }}"}).get_template("p.html")
    within(*APP, lambda: found.render(Context({"it": asks})))()
    assert asks.locations == [f"p.html:{line} < /srv/shop/views.py:2:show" for line in (1, 2)]
    assert query_location._located == {}


def test_texts_that_were_located_are_forgotten_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Apps write values into theirs."""
    monkeypatch.setattr(query_location, "_located", {})
    monkeypatch.setattr(query_location, "MOST_LOCATED", 3)
    for number in range(10):
        asked = within(*APP, lambda number=number: query_location.locate(f"SELECT {number}"))
        assert asked() == "/srv/shop/views.py:2:show"
        assert len(query_location._located) <= 3
