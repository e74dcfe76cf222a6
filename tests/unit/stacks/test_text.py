"""Stacks with local variables: shown as far as that is safe, without running code of the app."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import Any

import pytest

from otel_canonical.event.redaction import RedactionPolicy
from otel_canonical.stacks import location
from otel_canonical.stacks.text import HELD, short, with_locals

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
