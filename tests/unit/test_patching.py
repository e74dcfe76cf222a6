"""Patches of other people's code: applied once, invisible to callers, reported where they can't be."""

from __future__ import annotations

import ast
import asyncio
import functools
import inspect
import logging
import sys
import types
from collections.abc import Callable
from pathlib import Path

import pytest

import otel_canonical
from otel_canonical import internal_errors
from otel_canonical.patching import patch, patches_of, when_imported, wrapped

SOURCES = Path(otel_canonical.__file__).parent

#: Modules that may: this one, and those with decorators for functions of ours and of users.
DECORATORS = ("internal_errors.py", "patching.py", "request/app_facts.py")


class Theirs:
    """Code that is not ours."""

    factor = 2

    def double(self, number: int) -> int:
        """Return the number times the factor."""
        return number * self.factor

    @staticmethod
    def half(number: int) -> float:
        """Return half of the number."""
        return number / 2

    @classmethod
    def times(cls, number: int) -> int:
        """Return the number times the factor of the class."""
        return number * cls.factor

    async def later(self, number: int) -> int:
        """Return the number, asynchronously."""
        return number


class Child(Theirs):
    """Inherits all of it."""

    factor = 5


@pytest.fixture
def theirs() -> type[Theirs]:
    """A fresh class with the methods of `Theirs`."""
    itself = ("__dict__", "__weakref__")
    return type("Theirs", (), {k: v for k, v in vars(Theirs).items() if k not in itself})


def plus_one(function: Callable[..., float]) -> Callable[..., float]:
    """Return a replacement that adds one to what the original returns."""

    def add_one(*args: object) -> float:
        return function(*args) + 1

    return add_one


def plus_ten(function: Callable[..., float]) -> Callable[..., float]:
    """Return a replacement that adds ten."""

    def add_ten(*args: object) -> float:
        return function(*args) + 10

    return add_ten


@pytest.fixture
def not_strict(monkeypatch: pytest.MonkeyPatch) -> None:
    """Errors of ours are reported as at users', each of them anew."""
    monkeypatch.setenv(internal_errors.STRICT_VARIABLE, "0")
    monkeypatch.setattr(internal_errors, "_last_said_monotonic", {})


def test_methods_of_each_kind_are_replaced(theirs: type[Theirs]) -> None:
    """On the class: what was static stays static, what was of the class stays so."""
    for name in ("double", "half", "times"):
        assert patch(theirs, name, plus_one)
    one = theirs()
    assert (one.double(4), one.half(4), one.times(4)) == (9, 3, 9)
    assert (theirs.half(4), theirs.times(4)) == (3, 9)


def test_inherited_methods_are_replaced_in_the_child_only() -> None:
    """The parent's other children see nothing of it."""
    child = type("Grandchild", (Child,), {})
    for name in ("double", "half", "times"):
        assert patch(child, name, plus_one)
    assert (child().double(4), child.half(4), child.times(4)) == (21, 3, 21)
    assert (Child().double(4), Child.half(4), Child.times(4)) == (20, 2, 20)


def test_method_of_one_object_is_replaced(theirs: type[Theirs]) -> None:
    """The original comes bound; another object of the class keeps its own."""
    patched, other = theirs(), theirs()
    assert patch(patched, "double", plus_one)
    assert (patched.double(4), other.double(4)) == (9, 8)


def test_bound_method_may_be_the_replacement(theirs: type[Theirs]) -> None:
    """As Django asks of a cache: `__func__` is there, and the patch is marked all the same."""
    one = theirs()

    def as_method(double: Callable[[int], int]) -> Callable[[int], int]:
        return types.MethodType(lambda self, number: double(number) + 1, one)

    for _ in range(2):
        assert patch(one, "double", as_method)
        assert one.double(4) == 9
        assert one.double.__func__.__name__ == "double"


def test_function_of_a_module_is_replaced() -> None:
    """Also by a `functools.partial`, whose patch is known by the function inside."""
    module = types.ModuleType("theirs")
    module.half = Theirs.half  # type: ignore[attr-defined]

    def plus(number: int, function: Callable[[int], float]) -> Callable[[int], float]:
        return lambda argument: function(argument) + number

    for _ in range(2):
        assert patch(module, "half", functools.partial(plus, 3))
        assert module.half(4) == 5


def test_coroutine_function_stays_one(theirs: type[Theirs]) -> None:
    """Django and asgiref ask a function whether it is one."""

    def counting(later: Callable[..., object]) -> Callable[..., object]:
        async def later_and_count(self: Theirs, number: int) -> int:
            return await later(self, number) + 1  # type: ignore[misc,no-any-return]

        return later_and_count

    assert patch(theirs, "later", counting)
    assert inspect.iscoroutinefunction(theirs.later)
    assert asyncio.run(theirs().later(4)) == 5


def test_patching_twice_is_patching_once(theirs: type[Theirs]) -> None:
    """Per `make`: another patch of the same function comes on top, in any order."""
    for make in (plus_one, plus_ten, plus_one, plus_ten):
        for name in ("double", "half", "times"):
            assert patch(theirs, name, make)
    one = theirs()
    assert (one.double(4), one.half(4), one.times(4)) == (19, 13, 19)
    assert patches_of(one.double) == tuple(
        f"{make.__module__}.{make.__qualname__}" for make in (plus_one, plus_ten)
    )


def test_patch_of_a_class_counts_for_its_objects_and_children(theirs: type[Theirs]) -> None:
    """Otherwise a call would be noted twice."""
    child = type("Child", (theirs,), {})
    patch(theirs, "double", plus_one)
    one = child()
    assert patch(one, "double", plus_one)
    assert patch(child, "double", plus_one)
    assert one.double(4) == 9
    assert "double" not in vars(child)
    assert "double" not in vars(one)


def test_patch_is_found_below_another_wrapper(theirs: type[Theirs]) -> None:
    """Somebody else has wrapped our replacement as `functools.wraps` does."""
    patch(theirs, "double", plus_one)
    ours = theirs.double
    theirs.double = functools.wraps(ours)(lambda self, number: ours(self, number))  # type: ignore[method-assign]
    patch(theirs, "double", plus_one)
    assert theirs().double(4) == 9


def test_callers_see_the_original(theirs: type[Theirs]) -> None:
    """Name, documentation and signature; and the original itself is at hand."""
    original = theirs.double
    patch(theirs, "double", plus_one)
    assert theirs.double is not original
    assert theirs.double.__name__ == "double"
    assert theirs.double.__qualname__ == original.__qualname__
    assert theirs.double.__doc__ == original.__doc__
    assert inspect.signature(theirs.double) == inspect.signature(original)
    assert inspect.unwrap(theirs.double) is original


def test_nothing_stands_around_the_replacement(theirs: type[Theirs]) -> None:
    """What `make` returns is what is called: a patch adds no frame and no call."""
    made: list[object] = []

    def kept(double: Callable[..., int]) -> Callable[..., int]:
        made.append(lambda self, number: number)
        return made[-1]  # type: ignore[return-value]

    patch(theirs, "double", kept)
    assert vars(theirs)["double"] is made[0]


def test_object_is_replaced_that_is_no_function() -> None:
    """By one that stands in for it, or by a class; neither takes over what only functions have."""

    class StandIn:
        def __init__(self, real: object) -> None:
            self.real = real

        def __getattr__(self, name: str) -> object:
            return getattr(self.real, name)

    owner = types.SimpleNamespace(log=logging, kind=Theirs)
    for _ in range(2):
        assert patch(owner, "log", StandIn)
        assert patch(owner, "kind", lambda kind: type("Ours", (kind,), {}))
    assert owner.log.real is logging
    assert set(vars(owner.log)) == {"real", "__otel_canonical__"}
    assert owner.kind.__name__ == "Ours"
    assert owner.kind.__base__ is Theirs


def test_original_may_stay(theirs: type[Theirs]) -> None:
    """A `make` that returns what it got has changed nothing, not even a mark."""
    before = dict(vars(theirs))
    for name in ("double", "half"):
        assert patch(theirs, name, lambda function: function)
    assert dict(vars(theirs)) == before
    assert patches_of(theirs.double) == ()


def test_missing_attribute_is_reported_once(
    theirs: type[Theirs], not_strict: None, caplog: pytest.LogCaptureFixture
) -> None:
    """By name, for whoever is on call; the owner stays as it is."""
    before = dict(vars(theirs))
    for owner in (theirs, theirs(), theirs, types.ModuleType("a.module")):
        assert not patch(owner, "triple", plus_one)
    assert [record.getMessage() for record in caplog.records] == [
        f"otel-canonical: {__name__}.Theirs has no 'triple' in this version; "
        "what otel-canonical does there is left out",
        "otel-canonical: a.module has no 'triple' in this version; "
        "what otel-canonical does there is left out",
    ]
    assert dict(vars(theirs)) == before


def test_missing_attribute_fails_in_strict_mode(theirs: type[Theirs]) -> None:
    """Our own tests notice a new version of somebody else's."""
    with pytest.raises(AttributeError, match=r"Theirs has no 'triple'"):
        patch(theirs, "triple", plus_one)


def test_optional_attribute_may_be_missing(
    theirs: type[Theirs], caplog: pytest.LogCaptureFixture
) -> None:
    """Without a word; also where the owner is missing as well."""
    assert not patch(theirs, "triple", plus_one, is_optional=True)
    assert not patch(None, "triple", plus_one, is_optional=True)
    assert not caplog.records


def test_wrapped_is_for_owners_that_are_told() -> None:
    """Shows another function's signature if asked to; wrapping twice is wrapping once."""

    def shown(one: int, two: int) -> None:
        """Say what it takes."""

    once = wrapped(Theirs.half, plus_one, looks_like=shown)
    assert wrapped(once, plus_one, looks_like=shown) is once
    assert inspect.signature(once) == inspect.signature(shown)
    assert once(4) == 3


def test_patches_of_anything_are_none() -> None:
    """Also of an object that has every attribute it is asked for."""

    class HasAll:
        def __getattr__(self, name: str) -> str:
            return name

    assert patches_of(HasAll()) == patches_of(None) == ()


def test_hook_runs_when_a_module_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not before; at once if it is there already."""
    (tmp_path / "imported_by_test.py").write_text("there = True\n")
    monkeypatch.syspath_prepend(tmp_path)
    seen: list[str] = []
    when_imported("imported_by_test", lambda module: seen.append(f"first {module.there}"))
    assert seen == []
    __import__("imported_by_test")
    assert seen == ["first True"]
    when_imported("imported_by_test", lambda module: seen.append("second"))
    assert seen == ["first True", "second"]
    del sys.modules["imported_by_test"]


def test_failing_hook_fails_no_import(not_strict: None, caplog: pytest.LogCaptureFixture) -> None:
    """It is reported; the app gets its module."""

    def fail(module: types.ModuleType) -> None:
        raise LookupError("of ours")

    when_imported("json", fail)
    [record] = caplog.records
    assert "patching json" in record.getMessage()


def wraps(node: ast.AST, functions: set[str]) -> bool:
    """Return whether a node of a module with these functions may wrap other people's code."""
    if isinstance(node, ast.Name):
        return node.id in ("setattr", "wrapt")
    if isinstance(node, ast.Attribute):
        return node.attr in ("wraps", "update_wrapper")
    if isinstance(node, ast.alias):
        return node.name in ("wraps", "update_wrapper", "wrapt")
    if isinstance(node, ast.ImportFrom):
        return node.module == "wrapt"
    return isinstance(node, ast.Assign) and any(
        isinstance(target, ast.Attribute)
        and not (isinstance(target.value, ast.Name) and target.value.id == "self")
        and (
            isinstance(node.value, ast.Lambda)
            or (isinstance(node.value, ast.Name) and node.value.id in functions)
        )
        for target in node.targets
    )


def wraps_in(source: str) -> list[str]:
    """Return the code of a module that may wrap other people's."""
    tree = ast.parse(source)
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    functions = {node.name for node in ast.walk(tree) if isinstance(node, kinds)}
    return [ast.unparse(node) for node in ast.walk(tree) if wraps(node, functions)]


def test_package_wraps_foreign_code_nowhere_else() -> None:
    """One grep lists every patch: no function is put into a foreign object, by whatever means."""
    paths = {str(path.relative_to(SOURCES)): path for path in SOURCES.rglob("*.py")}
    found = {name: wraps_in(path.read_text()) for name, path in paths.items()}
    assert {name for name in found if found[name]} == set(DECORATORS)


@pytest.mark.parametrize(
    "wrapping",
    [
        "setattr(worker, name, handle_and_note)",
        "@functools.wraps(handle)\ndef handle_and_note(): ...",
        "from functools import wraps",
        "wrapt.register_post_import_hook(hook, 'gunicorn')",
        "def handle(): ...\nworker.handle = handle",
        "async def handle(): ...\nworker.handle = handle",
        "class Handler: ...\nworker.handler = Handler",
        "worker.handle = lambda: None",
    ],
)
def test_each_way_to_wrap_is_seen(wrapping: str) -> None:
    """What the test above looks for."""
    assert wraps_in(wrapping)
