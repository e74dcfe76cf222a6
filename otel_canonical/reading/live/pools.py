"""A pool at one moment, as its scoreboards and `/proc` show it."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from typing import Any

from otel_canonical.pool import counters, layout, slots
from otel_canonical.pool.open_request import OpenRequest
from otel_canonical.pool.query_texts import read_text
from otel_canonical.reading.live import processes
from otel_canonical.reading.live.pages import FoundPool, Page
from otel_canonical.reading.live.shapes import LivePool, LiveRequest, LiveWorker, age_of

#: How long reading the memory of all workers may take: the kernel walks all of each.
MEMORY_S = 0.025
_NS = 1e9


def read_pool(found: FoundPool, *, with_memory: bool = True) -> LivePool:
    """Return a pool as it is now. Nothing in it is asked, so nothing in it can keep us waiting."""
    pages = found.pages
    current = pages[-1]
    facts = current.facts()
    outer = _outer_pids(found)
    workers: list[LiveWorker] = []
    requests: list[LiveRequest] = []
    for page in pages:
        for worker, its in _workers_of(page, outer, facts):
            workers.append(worker)
            requests += its
    workers.sort(key=lambda worker: worker.number)
    requests.sort(key=lambda request: request.started_ns)
    if with_memory:
        _read_memory(workers)
    known = current.head_word(layout.BACKLOG)
    return LivePool(
        pid=found.pid,
        state=_arbiter_state(found),
        facts=facts,
        facts_age=age_of(facts.get("sampled_ns")),
        backlog=known - 1 if known else None,
        is_bounded=all(page.is_bounded for page in pages),
        has_queues=any(page.has_queues for page in pages),
        workers=workers,
        requests=requests,
        switches=current.switches(),
    )


def _arbiter_state(found: FoundPool) -> str:
    return _state(processes.state_of(found.pid)) if found.is_alive else "gone"


def _state(letter: str) -> str:
    if letter in processes.DEAD:
        return "gone"
    return "stopped" if letter in processes.STOPPED else "running"


def _outer_pids(found: FoundPool) -> dict[int, int]:
    """Return the pids of the arbiter's children as we see them, by those that they have themselves."""
    depth = len(processes.namespaced_pids(found.pid))
    outer: dict[int, int] = {}
    for child in processes.children_of(found.pid):
        pids = processes.namespaced_pids(child)
        if len(pids) >= depth > 0:
            outer[pids[depth - 1]] = child
    return outer


def _workers_of(
    page: Page, outer: dict[int, int], facts: dict[str, Any]
) -> Iterator[tuple[LiveWorker, list[LiveRequest]]]:
    where = page.layout
    used = min(page.head_word(layout.USED_BLOCKS), where.blocks)
    waiting = page.words(where.waiting_at, used)
    for block in range(used):
        words = page.words(where.block_at(block), layout.BLOCK_WORDS)
        pid = words[counters.PID]
        if pid <= 0:
            # Free, or about to be forked.
            continue
        pid = outer.get(pid, pid)
        beat_ns = _heartbeat_ns(pid, words[counters.HEARTBEAT_FD])
        requests = list(_requests_of(page, block, words, pid, facts, beat_ns))
        worker = LiveWorker(
            number=words[counters.NUMBER],
            pid=pid,
            age=age_of(words[counters.STARTED_NS]) or 0.0,
            state=_state(processes.state_of(pid)),
            is_booted=words[counters.BOOTED_NS] > 0,
            requests=sum(words[: counters.COUNTS.index("slow")]),
            busy=len(requests),
            slots=where.slots,
            waiting=waiting[block],
            memory=processes.memory_of(pid, proportional=False),
            pss=None,
            heartbeat=age_of(beat_ns),
            words=words,
        )
        yield worker, requests


def _requests_of(
    page: Page, block: int, words: list[int], pid: int, facts: dict[str, Any], beat_ns: int | None
) -> Iterator[LiveRequest]:
    where = page.layout
    used = min(words[counters.USED_SLOTS], where.slots)
    active_at = where.active_at + block * layout.WORD
    if not used or not page.words(active_at, 1)[0]:
        return
    together = page.read(where.slot_at(block, 0), used * layout.SLOT)
    texts = b""
    for number in range(used):
        slot = together[number * layout.SLOT : (number + 1) * layout.SLOT]
        for _ in range(3):
            if not slots.is_torn(slot):
                break
            slot = page.read(where.slot_at(block, number), layout.SLOT)
        request = slots.parse(slot)
        if request is None:
            continue
        if (request.sql_number or request.system_number) and not texts:
            texts = page.read(where.texts_of(block), layout.TEXTS * layout.TEXT_SIZE)
        yield _request(request, (pid, words[counters.NUMBER]), texts, facts, beat_ns)


def _request(
    request: OpenRequest,
    worker: tuple[int, int],
    texts: bytes,
    facts: dict[str, Any],
    beat_ns: int | None,
) -> LiveRequest:
    known = request.texts
    now_ns = time.monotonic_ns()
    waits_in = waits = None
    if request.waiting_since_ns is not None:
        waits_in = read_text(texts, request.system_number) or "query"
        waits = max(now_ns - request.waiting_since_ns, 0) / _NS
    deadline = None
    if facts.get("times_out"):
        since_ns = min(request.started_ns, beat_ns or request.started_ns)
        deadline = facts["timeout_s"] - (now_ns - since_ns) / _NS
    return LiveRequest(
        worker_pid=worker[0],
        worker=worker[1],
        age=max(now_ns - request.started_ns, 0) / _NS,
        state="waits" if waits_in else "runs",
        method=known.get("method") or None,
        path=known.get("path") or None,
        route=known.get("route") or None,
        view=known.get("view") or None,
        client=known.get("client") or None,
        host=known.get("host") or None,
        user=known.get("user") or None,
        queries=request.queries,
        sql=read_text(texts, request.sql_number) or None,
        waits_in=waits_in,
        waits=waits,
        req_id=known.get("request_id") or None,
        trace_id=known.get("trace_id") or None,
        deadline=deadline,
        seen_at=request.watched.get("cause_loc") or None,
        started_ns=request.started_ns,
        thread_id=request.thread_id,
    )


def _heartbeat_ns(pid: int, number: int) -> int | None:
    """Return when a worker last told the arbiter that it is alive, monotonic ns."""
    if number <= 0:
        return None
    with contextlib.suppress(OSError):
        seen_ns = os.stat(processes.PROC / str(pid) / "fd" / str(number - 1)).st_mtime_ns
        # Before the first heartbeat the file has the time of its creation, by another clock.
        return seen_ns if seen_ns <= time.monotonic_ns() else None
    return None


def _read_memory(workers: list[LiveWorker]) -> None:
    deadline = time.monotonic() + MEMORY_S
    for worker in workers:
        if time.monotonic() > deadline:
            return
        worker.pss = processes.memory_of(worker.pid, proportional=True)
