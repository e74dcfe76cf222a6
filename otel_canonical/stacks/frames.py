"""Reads frames that belong to another thread, which may leave them meanwhile. Pure.

CPython 3.11 makes the object of a frame when somebody first asks for it, and may collect garbage while it
does. A collection can run Python code: `gc.callbacks`, finalizers. Then the GIL changes hands, the frame's
thread returns from the frame, and the object refers to memory that is used for something else: the process
crashes, at once or later (python/cpython#111363). So there nothing is collected while a frame of another
thread is looked at. Before 3.11 a frame is an object from its beginning; since 3.12 garbage is
collected between two instructions only.
"""

from __future__ import annotations

import gc
import operator
import sys
from collections.abc import Callable, Iterable
from functools import partial
from inspect import CO_OPTIMIZED
from itertools import accumulate, chain, islice, repeat, takewhile
from types import AsyncGeneratorType, CoroutineType, FrameType, GeneratorType
from typing import Any, TypeVar

R = TypeVar("R")

#: Before 3.13 a function has one dictionary of locals, which each access to `f_locals` updates.
LOCALS_ARE_SHARED = sys.version_info < (3, 13)
#: No name that a function's variable can have.
_LAST_LOOK = "values of otel-canonical's last look"
_MAY_COLLECT = sys.version_info[:2] == (3, 11)
#: Called with a frame and None it returns the caller's frame.
_back: Any = FrameType.__dict__["f_back"].__get__
_locals: Any = FrameType.__dict__["f_locals"].__get__
#: Those of other types, of Cython's for example, have no frames that the interpreter moves.
_NATIVE = (CoroutineType, GeneratorType, AsyncGeneratorType)


class _Kept:
    # Others may show all variables of a frame: an error report, a debugger. This one tells no value.
    __slots__ = ("_values",)

    def __init__(self, values: tuple[object, ...]) -> None:
        self._values = values


def stack_of_thread(thread_id: int) -> list[FrameType]:
    """Return what a thread runs, outermost frame first; empty if there is no such thread.

    Args:
        thread_id: its ident.
    """
    # An iterator, so that the threads are looked at in the same call as the frames.
    every_thread = islice(iter(sys._current_frames, None), 1)
    innermost = map(operator.methodcaller("get", thread_id), every_thread)
    return _walked_from(innermost)


def stacks_of_threads() -> list[list[FrameType]]:
    """Return what each thread runs, outermost frame first."""
    return [linked(frame) for frame in _at_once(sys._current_frames).values()]


def linked(frame: FrameType | None) -> list[FrameType]:
    """Return the stack that ends in the given frame, outermost frame first."""
    return _walked_from((frame,))


def frame_of(awaited: object, name: str) -> FrameType | None:
    """Return the frame of a coroutine or generator; None if it has ended.

    Args:
        awaited: the coroutine, or whatever else is awaited.
        name: the attribute that has the frame, `cr_frame` for example.
    """
    read = partial(getattr, awaited, name, None)
    frame: FrameType | None = _at_once(read) if type(awaited) in _NATIVE else read()
    return frame


def locals_of(frame: FrameType) -> Any:
    """Return a frame's variables by name: a copy of a function's, `f_locals` of a module or class.

    Where the dictionary is shared, a look drops the values of the last one while it puts in those of now, and
    their finalizers could let the function return (3.11, 3.12). So they are kept until the next look is over.
    """
    variables = _at_once(partial(_locals, frame, None))
    if not frame.f_code.co_flags & CO_OPTIMIZED:
        return variables
    found = dict(variables)
    if LOCALS_ARE_SHARED:
        found.pop(_LAST_LOOK, None)
        variables[_LAST_LOOK] = _Kept(tuple(found.values()))
    return found


def _walked_from(innermost: Iterable[FrameType | None]) -> list[FrameType]:
    # The walk is one call of C: the stack is that of one moment.
    walk = takewhile(bool, accumulate(chain(innermost, repeat(None)), _back))
    return _at_once(partial(list, walk))[::-1]


def _at_once(read: Callable[[], R]) -> R:
    """Call a function of C while nothing is collected.

    All of it is one call of C, in which the GIL does not change hands: no other thread ever finds the
    collector switched off, nor switches it in between.
    """
    if not _MAY_COLLECT:
        return read()
    # Iterators, because a collection can begin where one would be made.
    steps: dict[bool, Any] = {True: iter((gc.disable, read, gc.enable)), False: iter((read,))}
    chosen = map(steps.__getitem__, islice(iter(gc.isenabled, None), 1))
    try:
        results: list[Any] = list(map(operator.call, chain.from_iterable(chosen)))
    except BaseException:
        if list(steps[True]) == [gc.enable]:
            gc.enable()
        raise
    found: R = results[len(results) // 2]
    return found
