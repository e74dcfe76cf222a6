"""Patches foreign code; nothing else in this package wraps any.

Lives in every process. `git grep -E '(patch|supply|wrapped)[(]' otel_canonical` lists every patch. One
costs nothing at run time: callers reach what `make` returned, with nothing around it. A replacement
carries the names of its patches in `__otel_canonical__`: for debugging, and so that the same patch is
never applied twice.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from otel_canonical.internal_errors import guarded, is_strict, warn

T = TypeVar("T")

MARK = "__otel_canonical__"

_MISSING = object()


def patch(owner: Any, name: str, make: Callable[[T], T], *, is_optional: bool = False) -> bool:
    """Replace `owner.name`; a second call with the same `make` changes nothing.

    Args:
        owner: a module, a class or an object. Static and class methods stay what they are. An
            object's method is handed over bound, and the replacement is called without `self`.
        name: of the function; or of any other object, which `make` then stands in for.
        make: gets the original and returns the replacement. It is known by its qualified name: use
            a different function for each thing that you want done.
        is_optional: whether the attribute is missing in versions that we support. The absence of any
            other is reported to the operator.

    Returns:
        Whether the patch is in place; False if `owner` has no such attribute.

    Raises:
        AttributeError: in strict mode, if an attribute is missing that is not optional.
    """
    # On a class `getattr` would return what a static or class method makes of its function.
    is_class = isinstance(owner, type)
    found = inspect.getattr_static(owner, name, _MISSING) if is_class else _MISSING
    if isinstance(found, staticmethod | classmethod):
        made: Any = wrapped(found.__func__, make)
        if made is not found.__func__:
            setattr(owner, name, type(found)(made))
        return True
    original = getattr(owner, name, _MISSING)
    if original is _MISSING:
        if not is_optional:
            _report_missing(owner, name)
        return False
    replacement: Any = wrapped(original, make)
    if replacement is not original:
        setattr(owner, name, replacement)
    return True


def supply(owner: type, name: str, method: Callable[..., Any]) -> bool:
    """Give a class a method that it finds by `__getattr__` so far; a method of its own stays.

    Returns:
        Whether the class has the method now.
    """
    found = inspect.getattr_static(owner, name, None)
    if found is not None:
        return found is method
    setattr(method, MARK, (f"{method.__module__}.{method.__qualname__}",))
    setattr(owner, name, method)
    return True


def wrapped(original: Any, make: Callable[[T], T], *, looks_like: Any = None) -> Any:
    """Return a marked replacement, for owners that take it through a setter of their own.

    Args:
        original: what `make` gets.
        make: see `patch`; where it was applied already, and where it returns the original, the
            original is returned.
        looks_like: the function whose name, documentation and signature the replacement shows, if
            not the original's.
    """
    patch_name = _name_of(make)
    former = patches_of(original)
    if patch_name in former:
        return original
    made = make(original)
    if made is original:
        return original
    # A bound method takes no attributes.
    function: Any = getattr(made, "__func__", made)
    shown = original if looks_like is None else looks_like
    if inspect.isroutine(shown):
        functools.update_wrapper(function, shown)
    setattr(function, MARK, (*former, patch_name))
    return made


def patches_of(function: Any) -> tuple[str, ...]:
    """Return the names of the patches that were applied to a function, in that order."""
    found = getattr(function, MARK, ())
    # Objects exist that have every attribute they are asked for.
    return found if isinstance(found, tuple) else ()


def when_imported(module_name: str, hook: Callable[[Any], None]) -> None:
    """Call `hook` with a module as soon as it is imported; now, if it already is.

    An error in `hook` is reported: it must not fail the import.
    """

    def call_guarded(module: Any) -> None:
        with guarded(f"patching {module_name}"):
            hook(module)

    # Here, because it takes long to import: the commands of the console script don't need it.
    import wrapt

    wrapt.register_post_import_hook(call_guarded, module_name)


def _name_of(make: Any) -> str:
    while isinstance(make, functools.partial):
        make = make.func
    return f"{make.__module__}.{make.__qualname__}"


def _report_missing(owner: Any, name: str) -> None:
    kind = owner if isinstance(owner, type) or inspect.ismodule(owner) else type(owner)
    where = kind.__name__ if inspect.ismodule(kind) else f"{kind.__module__}.{kind.__qualname__}"
    what = f"{where} has no {name!r} in this version; what otel-canonical does there is left out"
    if is_strict():
        raise AttributeError(what)
    warn(what)
