"""Stacks with local variables: shown as far as that is safe, without running code of the app."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import Any

import pytest

from otel_canonical.event.logfmt import UNSHOWABLE
from otel_canonical.event.redaction import RedactionPolicy
from otel_canonical.stacks import location
from otel_canonical.stacks.text import (
    HELD,
    MOST_INNER_FRAMES,
    MOST_OUTER_FRAMES,
    short,
    with_locals,
    without_locals,
)

DEADLINE_S = 10.0

Wait = Callable[[], None]


@pytest.fixture(autouse=True)
def _tests_are_app(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is here stands for the app, wherever it lies."""
    monkeypatch.setattr(location, "is_library", lambda path: False)


def look_at(function: Callable[[Wait], object]) -> tuple[str, object]:
    """Run a function in a thread; return the text of its frame while it waits, and what it returns."""
    waits, go_on = threading.Event(), threading.Event()
    thread_ids: list[int] = []

    def wait() -> None:
        thread_ids.append(threading.get_ident())
        waits.set()
        assert go_on.wait(DEADLINE_S)

    with ThreadPoolExecutor(1) as threads:
        outcome = threads.submit(function, wait)
        try:
            assert waits.wait(DEADLINE_S)
            frame: FrameType | None = sys._current_frames()[thread_ids[0]]
            while frame is not None and frame.f_code is not wait.__code__:
                frame = frame.f_back
            assert frame is not None
            assert frame.f_back is not None
            text = with_locals(RedactionPolicy())([frame.f_back])
        finally:
            go_on.set()
        return text, outcome.result(DEADLINE_S)


def changes_locals(wait: Wait) -> object:
    """Work with `locals()` as with a dictionary of one's own."""
    name = "before"
    context = locals()
    context["name"] = "after"
    wait()
    return name, context["name"]


def walks_along_locals(wait: Wait) -> object:
    """Walk along `locals()`, with one more of them since it was called."""
    seen: list[str] = []
    for name in locals():
        if not seen:
            wait()
        seen.append(name)
    return seen


def test_what_the_app_wrote_to_its_locals_stays() -> None:
    """Before Python 3.13 a look would bring the dictionary up to date."""
    _, outcome = look_at(changes_locals)
    assert outcome == ("before", "after")


def test_app_can_walk_along_its_locals() -> None:
    """They are not one more meanwhile."""
    text, outcome = look_at(walks_along_locals)
    assert outcome == ["wait", "seen"]
    if sys.version_info < (3, 13):
        assert HELD in text
        assert short(text).endswith(f":walks_along_locals ({HELD})")


def test_variables_of_any_kind_are_shown_or_passed_over() -> None:
    """Of an object the type, of a secret nothing; a number that Python refuses to print is no error."""

    def holds(wait: Wait) -> object:
        apples, password, huge, thing = "three apples", "hunter2", 10**5000, object()
        wait()
        return apples, password, huge, thing

    text, _ = look_at(holds)
    assert "apples='three apples', password=[redacted], huge=!err, thing=<object>" in text


@pytest.mark.filterwarnings("ignore:non-string key")
def test_body_of_a_class_is_shown_from_a_copy() -> None:
    """Its variables are the class's own namespace, whose keys may be anything."""

    def defines(wait: Wait) -> object:
        class Defined:
            price = 7
            locals()[8] = "odd"  # type: ignore[index]
            wait()

        return sorted(name for name in vars(Defined) if isinstance(name, str) and name[0] != "_")

    text, names = look_at(defines)
    assert "price=7" in text
    assert "odd" not in text
    assert names == ["price"]


def test_namespace_that_runs_code_is_not_asked() -> None:
    """A metaclass may have made it; what it does must not happen in our thread."""
    asked_by: set[int] = set()

    class Namespace:
        def __init__(self) -> None:
            self.names: dict[str, Any] = {}

        def __getitem__(self, name: str) -> Any:
            return self.names[name]

        def __setitem__(self, name: str, value: Any) -> None:
            self.names[name] = value

        def items(self) -> Any:
            asked_by.add(threading.get_ident())
            return self.names.items()

    class Prepared(type):
        @classmethod
        def __prepare__(cls, *_: Any, **__: Any) -> Any:
            return Namespace()

        def __new__(cls, name: str, bases: tuple[type, ...], names: Any) -> Any:
            return super().__new__(cls, name, bases, dict(names.names))

    def defines(wait: Wait) -> object:
        class Defined(metaclass=Prepared):
            price = 7
            wait()

        return Defined.price

    text, price = look_at(defines)
    assert price == 7
    assert "price=7" not in text
    assert not asked_by


def test_stack_on_one_line_is_innermost_first() -> None:
    """Without its source; locals follow their frame."""
    stack = (
        '  File "/x/a.py", line 3, in f\n    f()\n'
        '  File "/x/b.py", line 9, in g\n    g()\n      n=1, m=2\n'
    )
    assert short(stack) == "/x/b.py:9:g (n=1, m=2) < /x/a.py:3:f"
    assert short("") == ""
    assert short("      n=1\n") == ""
    assert short('  File "/x/a.py", line , in f\n') == "/x/a.py:0:f"


def test_long_stack_shows_both_ends() -> None:
    """A recursion; what is between is counted, and a stack that just fits is whole."""
    frame = sys._getframe()
    most = MOST_OUTER_FRAMES + MOST_INNER_FRAMES
    describe = without_locals(RedactionPolicy())
    whole = describe([frame] * most)
    assert whole.count("  File ") == most == 120
    assert "left out" not in whole
    for more in (1, 7):
        cut = describe([frame] * (most + more))
        assert cut.count("  File ") == most
        assert f"  [{more} frames left out]\n" in cut
        assert cut.partition("  [")[0].count("  File ") == MOST_OUTER_FRAMES == 40


def test_variables_of_a_frame_are_few_and_short() -> None:
    """The first twenty, each up to 120 characters."""
    source = "def many(wait):\n" + "".join(f"    v{n} = {n}\n" for n in range(30)) + "    wait()\n"
    namespace: dict[str, Any] = {}
    exec(compile(source, "/srv/many.py", "exec"), namespace)
    text, _ = look_at(namespace["many"])
    assert "v18=18" in text
    assert "v19=" not in text

    def long(wait: Wait) -> object:
        text = "x" * 1000
        numbers = b"y" * 1000
        wait()
        return text, numbers

    shown, _ = look_at(long)
    for name in ("text=", "numbers="):
        _, _, value = shown.partition(name)
        assert 100 < len(value.partition("...[+")[0]) <= 120


def test_variable_with_a_secret_name_is_hidden() -> None:
    """Whatever it holds; a number of thousands of digits has no text."""

    def signs_in(wait: Wait) -> object:
        password = "hunter2"
        number = 10**5000
        wait()
        return password, number

    text, _ = look_at(signs_in)
    assert "password=[redacted]" in text
    assert f"number={UNSHOWABLE}" in text
