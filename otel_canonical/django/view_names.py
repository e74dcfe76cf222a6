"""Names views as their author would: what a wrapper wraps, the action of a view set, an API's operation. Pure.

A function is `module.name`, a class `module.Class`, a method `module.Class.method`, of the class of the
object that it is bound to: that tells the admin pages of two models apart.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Mapping
from inspect import CO_VARARGS
from types import CellType, CodeType, FunctionType, MethodType
from typing import Any

#: Wrappers in wrappers that are followed; it also ends a circle.
MOST_WRAPPERS = 20

#: How the first argument of a view is called.
REQUESTS = ("request", "req", "_request")

#: The most views whose names are kept: a site may make views as it goes.
MOST_VIEWS = 4096

#: The name of a view or, where the HTTP method chooses among several, the names by method.
Name = str | Mapping[str, str]

#: By the function of the URL pattern. Read without a call for every request.
known: dict[Any, Name] = {}


def name_of(match: Any, method: str) -> str:
    """Return the name of the view that a URL was resolved to, and keep it in `known`.

    Args:
        match: Django's `ResolverMatch`.
        method: the request's HTTP method.
    """
    name = _describe(match.func) or match._func_path
    if len(known) >= MOST_VIEWS:
        known.clear()
    known[match.func] = name
    return chosen(name, match, method)


def chosen(name: Name, match: Any, method: str) -> str:
    """Return the name for an HTTP method."""
    if isinstance(name, str):
        return name
    found = name.get(method) or name.get("")
    return found if found is not None else str(match._func_path)


def _describe(view: Any) -> Name | None:
    for _ in range(MOST_WRAPPERS):
        if isinstance(view, functools.partial):
            view = view.func
            continue
        if (of_class := _described_class(view)) is not None:
            return of_class
        if (operations := _ninja_operations(view)) is not None:
            return operations
        # A bound method has a name, whatever decorates its function.
        inner = None if isinstance(view, MethodType) else _wrapped(view)
        if inner is None:
            break
        view = inner
    return _plain(view)


def _described_class(view: Any) -> Name | None:
    """Return the name of what `as_view()` has made; None for other views."""
    # Django's `as_view()`, Django REST framework's, and that of its view sets.
    kind = getattr(view, "view_class", None) or getattr(view, "cls", None)
    if not isinstance(kind, type):
        return None
    name = f"{kind.__module__}.{kind.__qualname__}"
    actions = getattr(view, "actions", None)
    if not isinstance(actions, Mapping) or not actions:
        return name
    names = {str(method).upper(): f"{name}.{action}" for method, action in actions.items()}
    if "GET" in names:
        names.setdefault("HEAD", names["GET"])
    return {"": name, **names}


def _ninja_operations(view: Any) -> Name | None:
    """Return the functions behind a view of django-ninja's, by HTTP method; None for other views."""
    if not str(getattr(view, "__module__", "")).startswith("ninja"):
        return None
    for held in _held_by(view):
        operations = getattr(held, "operations", None)
        if not isinstance(operations, list):
            continue
        names = {
            method: _plain(operation.view_func) or ""
            for operation in operations
            for method in operation.methods
        }
        return {name: text for name, text in names.items() if text}
    return None


def _wrapped(view: Any) -> Any:
    """Return what a decorator has wrapped; None if it can't be told or nothing was."""
    inner = getattr(view, "__wrapped__", None)
    if inner is not None:
        return inner
    if not isinstance(view, FunctionType) or "<locals>" not in view.__qualname__:
        return None
    # A decorator without `functools.wraps`: the one function that its wrapper holds.
    functions = [held for held in _held_by(view) if _is_view(held, view.__code__)]
    return functions[0] if len(functions) == 1 else None


def _held_by(function: Any) -> Iterator[Any]:
    cells: tuple[CellType, ...] = getattr(function, "__closure__", None) or ()
    for cell in cells:
        with contextlib.suppress(ValueError):  # a variable that is not set
            yield cell.cell_contents


def _is_view(held: Any, wrapper: CodeType) -> bool:
    """Return whether what a wrapper holds may be the view that it calls, not a helper."""
    if isinstance(held, functools.partial) or (callable(held) and hasattr(held, "view_class")):
        return True
    if not isinstance(held, (FunctionType, MethodType)):
        return False
    code = getattr(held, "__code__", None)
    if code is None or not wrapper.co_argcount or code.co_flags & CO_VARARGS:
        return True
    # A wrapper that names the request passes it on.
    first = int(isinstance(held, MethodType))
    return first < code.co_argcount and code.co_varnames[first] in (
        *REQUESTS,
        wrapper.co_varnames[0],
    )


def _plain(view: Any) -> str | None:
    if isinstance(view, MethodType):
        owner = view.__self__ if isinstance(view.__self__, type) else type(view.__self__)
        return f"{owner.__module__}.{owner.__qualname__}.{view.__name__}"
    name = getattr(view, "__name__", None)
    if not isinstance(name, str):
        return f"{type(view).__module__}.{type(view).__qualname__}"
    return f"{view.__module__}.{name}"
