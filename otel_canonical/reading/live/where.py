"""Where the open requests of a pool are: each joined to its stack, whoever could tell it."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

from otel_canonical.reading.live import outside
from otel_canonical.reading.live.answers import ANSWER_S, Frame, Question, Stack
from otel_canonical.reading.live.shapes import LivePool, LiveRequest, LiveWorker
from otel_canonical.stacks.location import is_library

#: Who told a stack: the worker's watchdog, py-spy from outside, the interpreter on a signal.
WATCHDOG, PY_SPY, DUMP = "watchdog", "py-spy", "dump"


@dataclass(slots=True)
class Whereabouts:
    """Requests that are at the same place.

    Attributes:
        frames: file, line, function, whether it is the app's; outermost first. Empty if unknown.
        requests: those that are there.
        told_by: who told the stack.
        note: what to know about it; empty if nothing.
    """

    frames: tuple[Frame, ...]
    requests: list[LiveRequest]
    told_by: str
    note: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return what `stacks --json` says of it."""
        names = ("file", "line", "function", "is_app")
        return {
            "frames": [dict(zip(names, frame, strict=True)) for frame in self.frames],
            "requests": [asdict(request) for request in self.requests],
            "told_by": self.told_by,
            "note": self.note,
        }


def locate(pool: LivePool) -> list[Whereabouts]:
    """Return where all open requests of a pool are; the oldest first."""
    busy = [worker for worker in pool.workers if worker.busy]
    questions = [(worker, Question(worker)) for worker in busy]
    until = time.monotonic() + ANSWER_S
    found: dict[tuple[tuple[Frame, ...], str, str], Whereabouts] = {}
    for worker, question in questions:
        requests = [r for r in pool.requests if r.worker_pid == worker.pid]
        stacks = question.wait(until)
        if stacks is not None:
            places = _answered(stacks, requests)
        else:
            places = _from_outside(worker, requests, is_bounded=pool.is_bounded)
        for place in places:
            known = found.setdefault((place.frames, place.told_by, place.note), place)
            if known is not place:
                known.requests += place.requests
    for place in found.values():
        place.requests.sort(key=lambda request: request.started_ns)
    return sorted(found.values(), key=lambda place: place.requests[0].started_ns)


def _answered(stacks: list[Stack], requests: list[LiveRequest]) -> list[Whereabouts]:
    by_key = {(request.started_ns, request.thread_id): request for request in requests}
    places: list[Whereabouts] = []
    for stack in stacks:
        # Those that began after the scoreboard was read are left out, as in `ps`.
        its = [by_key.pop(key) for key in stack.requests if key in by_key]
        if its:
            note = "" if stack.frames else "it was being switched; ask again"
            places.append(Whereabouts(stack.frames, its, WATCHDOG, note))
    # The rest has ended meanwhile.
    return places


def _from_outside(
    worker: LiveWorker, requests: list[LiveRequest], *, is_bounded: bool
) -> list[Whereabouts]:
    if worker.state != "running":
        return [Whereabouts((), requests, "", f"worker {worker.pid} is {worker.state}")]
    told_by, stacks = PY_SPY, outside.by_py_spy(worker)
    if stacks is None:
        told_by, stacks = DUMP, outside.by_dump(worker)
    if stacks is None:
        note = f"worker {worker.pid} does not answer: ask again, or to look from outside: pip install py-spy"
        return [Whereabouts((), requests, "", note)]
    places: list[Whereabouts] = []
    shared: dict[int, list[LiveRequest]] = {}
    for request in requests:
        shared.setdefault(request.thread_id, []).append(request)
    for thread, its in shared.items():
        # Greenlets have idents of their own: the worker's main thread runs them.
        found = stacks.get(thread) or (_main(stacks) if not is_bounded else None) or []
        frames = tuple((*frame, not is_library(frame[0])) for frame in found)
        running = its if is_bounded or len(its) == 1 else _running(its, frames)
        if running:
            places.append(Whereabouts(frames, running, told_by))
        waiting = [request for request in its if request not in running]
        if waiting:
            note = "waits for the thread, which the request above or one of these holds"
            places.append(Whereabouts((), waiting, told_by, note))
    return places


def _main(stacks: outside.Stacks) -> list[tuple[str, int, str]]:
    """Return the deepest stack: that of the thread that serves."""
    return max(stacks.values(), key=len, default=[])


def _running(requests: list[LiveRequest], frames: tuple[Frame, ...]) -> list[LiveRequest]:
    """Return the one of a thread's requests whose view is on the thread's stack, if only one's is."""
    functions = {frame[2] for frame in frames if frame[3]}
    found = [r for r in requests if r.view and r.view.rpartition(".")[2] in functions]
    return found if len(found) == 1 else []
