"""Frames of a thread that goes on while they are read: in the middle of it, wherever that can happen."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from otel_canonical.stacks import frames

#: A thread waits in a few calls. While it is looked at it goes on, at the first collection of garbage, the
#: second, and so on; it leaves its frames, and uses their memory for others, before the look is continued.
PROGRAM = """
import gc, sys, threading
from otel_canonical.stacks.frames import frame_of, locals_of, stack_of_thread, stacks_of_threads

STEPS = 40

class Watched:
    def __init__(self):
        self.waits, self.goes_on, self.has_left, self.ends = (threading.Event() for _ in range(4))
        self.coroutine = self.asynchronous()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()
        assert self.waits.wait(60)

    def run(self):
        self.outer()
        self.overwrite(40)

    def outer(self):
        self.middle()

    def middle(self):
        try:
            self.coroutine.send(None)
        except StopIteration:
            pass

    async def asynchronous(self):
        self.inner(1)

    async def other(self):
        pass

    def inner(self, one):
        two = one + 1
        self.waits.set()
        self.goes_on.wait()
        return two

    def overwrite(self, depth, *more):
        if depth:
            self.overwrite(depth - 1, 1, 2, 3)
        else:
            self.has_left.set()
            self.ends.wait()

class Collections:
    def __init__(self, watched, skipped):
        self.watched, self.left = watched, skipped

    def __call__(self, phase, info):
        if phase == "start" and threading.current_thread() is threading.main_thread():
            self.left -= 1
            if self.left == -1:
                self.watched.goes_on.set()
                assert self.watched.has_left.wait(60)

def stack(watched):
    return [frame.f_code.co_name for frame in stack_of_thread(watched.thread.ident)]

def stacks(watched):
    found = [[frame.f_code.co_name for frame in stack] for stack in stacks_of_threads()]
    return next(stack for stack in found if "stacks" not in stack)

def coroutine(watched):
    frame = frame_of(watched.coroutine, "cr_frame")
    # Others take its place, if it has ended.
    watched.coroutine = None
    others = [Watched.other(None) for _ in range(100)]
    for one in others:
        one.close()
    return [frame and (frame.f_code.co_name, sorted(frame.f_locals))]

def variables(watched):
    frame = stack_of_thread(watched.thread.ident)
    found = [one for one in frame if one.f_code.co_name == "inner"]
    return [sorted(locals_of(one)) for one in found]

class Finalized:
    def __init__(self, watched):
        self.watched = watched

    def __del__(self):
        if threading.current_thread() is threading.main_thread():
            self.watched.goes_on.set()
            assert self.watched.has_left.wait(60)

class Rebinds(Watched):
    def __init__(self):
        self.rebinds, self.has_rebound = threading.Event(), threading.Event()
        super().__init__()

    def inner(self, one):
        finalized = Finalized(self)
        two = one + 1
        self.waits.set()
        self.rebinds.wait()
        finalized = None
        self.has_rebound.set()
        self.goes_on.wait()
        return two

def twice():
    watched = Rebinds()
    [frame] = [one for one in stack_of_thread(watched.thread.ident) if one.f_code.co_name == "inner"]
    names = [sorted(locals_of(frame))]
    watched.rebinds.set()
    assert watched.has_rebound.wait(60)
    found = locals_of(frame)
    names += [sorted(found), found["finalized"], found["two"], watched.goes_on.is_set()]
    # Whoever shows all variables shows no value under another name.
    names.append(any("Rebinds" in repr(value) for name, value in frame.f_locals.items() if name != "self"))
    watched.goes_on.set()
    watched.ends.set()
    watched.thread.join()
    return names

if sys.argv[1] == "twice":
    print(twice())
    sys.exit()

class Garbage:
    pass

look = globals()[sys.argv[1]]
seen = []
for step in range(STEPS):
    watched = Watched()
    collections = Collections(watched, step // 2)
    gc.collect()
    gc.callbacks.append(collections)
    gc.set_threshold(1)
    # There is a collection for every other object: now for each first of two, now for each second.
    garbage = [Garbage() for _ in range(step % 2)]
    found = look(watched)
    gc.set_threshold(700, 10, 10)
    gc.callbacks.remove(collections)
    assert gc.isenabled()
    if found not in seen:
        seen.append(found)
    watched.goes_on.set()
    watched.ends.set()
    watched.thread.join()
print(seen)
"""

#: What any look may find: the thread where it waits first, where it waits then, or neither any more.
BEFORE = ["outer", "middle", "asynchronous", "inner"]


def looked_at(name: str) -> list[list[object]]:
    """Return the different things that looks of one kind have found."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, name],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=Path(frames.__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr
    found: list[list[object]] = eval(done.stdout)
    return found


@pytest.mark.parametrize("name", ["stack", "stacks"])
def test_stack_of_a_thread_that_goes_on_is_that_of_one_moment(name: str) -> None:
    """On CPython 3.11 a walk along `f_back` crashes here."""
    stacks = [[one for one in found if one in (*BEFORE, "overwrite")] for found in looked_at(name)]
    assert BEFORE in stacks
    # The frames of a coroutine that ends in between have no caller.
    ends = (BEFORE, ["asynchronous", "inner"], [], ["overwrite"] * 41)
    assert all(stack in ends for stack in stacks), stacks


def test_frame_of_a_coroutine_that_ends_meanwhile() -> None:
    """It is the coroutine's, or there is none any more."""
    found = looked_at("coroutine")
    assert [("asynchronous", ["self"])] in found
    assert all(
        one in ([("asynchronous", ["self"])], [("asynchronous", [])], [None]) for one in found
    )


def test_variables_of_a_function_that_returns_meanwhile() -> None:
    """They are the function's, or those that it has left are missing."""
    found = looked_at("variables")
    assert [["one", "self", "two"]] in found
    assert all(one in ([["one", "self", "two"]], [[]], []) for one in found)


def test_variables_whose_last_values_have_finalizers() -> None:
    """These run when nothing is being read any more; CPython 3.11 and 3.12 would read from a function left."""
    names = ["finalized", "one", "self", "two"]
    assert looked_at("twice") == [names, names, None, 2, sys.version_info < (3, 13), False]


def test_collector_is_as_it_was() -> None:
    """Whether it is on or off, and also behind something that fails."""

    def fail() -> None:
        raise ValueError

    assert gc.isenabled()
    for switch, is_enabled in ((gc.disable, False), (gc.enable, True)):
        switch()
        try:
            assert frames.stack_of_thread(threading.get_ident())
            assert gc.isenabled() is is_enabled
            with pytest.raises(ValueError, match=r"^$"):
                frames._at_once(fail)
            assert gc.isenabled() is is_enabled
        finally:
            gc.enable()


def test_no_other_thread_finds_the_collector_switched_off() -> None:
    """An app that asks, to switch it back on later if it was on, would leave it off."""
    asks, found = threading.Event(), []

    def ask() -> None:
        asks.set()
        found.append(all(gc.isenabled() for _ in range(200_000)))

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    thread = threading.Thread(target=ask)
    thread.start()
    try:
        assert asks.wait(60)
        while thread.is_alive():
            assert frames.stacks_of_threads()
    finally:
        sys.setswitchinterval(interval)
        thread.join()
    assert found == [True]
