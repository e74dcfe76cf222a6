"""The screens of `ps`, `top` and `stacks` as rows of text with styles; `screen` shows them."""

from __future__ import annotations

import linecache
from collections.abc import Iterable, Iterator, Sequence

from otel_canonical.reading.line_view import Piece
from otel_canonical.reading.live.shapes import LivePool, LiveRequest, LiveWorker
from otel_canonical.reading.live.where import Whereabouts
from otel_canonical.reading.screen import cells
from otel_canonical.reading.wording import count, counted, duration, share, size, visible

Row = list[Piece]

#: From these ages on, s, a request is shown as a warning, and as an error.
OLD_S, VERY_OLD_S = 1.0, 10.0
#: Columns where there is no terminal to say how many there are.
WIDE = 160

_BLOCKS = "▁▂▃▄▅▆▇█"


def head(pool: LivePool) -> Iterator[Row]:
    """Yield the rows that describe a pool as a whole."""
    facts = pool.facts
    versions = facts.get("versions", {})
    title = [
        *(facts.get("name") or "", f"pid {pool.pid}", " ".join(facts.get("bind", ()))),
        *(f"up {duration(age)}" for age in [pool.as_json()["age"]] if age is not None),
        *(
            f"{name} {versions[name]}"
            for name in ("gunicorn", "otel-canonical")
            if name in versions
        ),
    ]
    yield [("  ".join(visible(part) for part in title if part), "bold")]
    booted = sum(worker.is_booted for worker in pool.workers)
    numbers = [f"workers {booted} of {facts.get('workers', len(pool.workers))}"]
    if pool.slots is not None:
        numbers.append(f"slots {pool.slots}")
    busy = f"busy {pool.busy}"
    numbers.append(busy + (f" ({share(pool.busy / pool.slots)})" if pool.slots else ""))
    if pool.has_queues:
        numbers.append(f"waiting {sum(worker.waiting for worker in pool.workers)}")
    numbers.append(f"backlog {'?' if pool.backlog is None else pool.backlog}")
    if facts.get("utilization") is not None:
        numbers.append(f"last minute {share(facts['utilization'])} busy")
    pss = pool.as_json()["pss"]
    if pss is not None:
        numbers.append(f"memory {size(pss)}")
    yield [("   ".join(numbers), "")]
    lines = {name: number for name, number in facts.get("lines", {}).items() if number}
    if lines:
        told = "  ".join(f"{count(number)} {name}" for name, number in lines.items())
        yield [(f"lines since start: {told}", "dim")]
    deaths = facts.get("deaths", {})
    if deaths:
        told = "  ".join(f"{count(number)} {cause}" for cause, number in deaths.items())
        yield [(f"died since start: {told}", "dim")]
    yield from _warnings(pool)


def _warnings(pool: LivePool) -> Iterator[Row]:
    if pool.state == "stopped":
        yield [(f"the arbiter is stopped (SIGSTOP?): kill -CONT {pool.pid}", "error")]
    elif pool.state == "gone":
        yield [("the arbiter is gone; its workers leave as soon as they notice", "error")]
    elif pool.facts_age is not None and pool.facts_age > 5:
        yield [(f"the arbiter was last seen working {duration(pool.facts_age)} ago", "warning")]
    for name, (text, _) in pool.switches.items():
        yield [(f"switched: {visible(name)}={visible(text)}", "warning")]


def worker_rows(workers: Sequence[LiveWorker]) -> Iterator[Row]:
    """Yield a table of workers."""
    yield [("WORKER       AGE       REQUESTS  BUSY   MEMORY   HEARTBEAT", "dim")]
    for worker in workers:
        state = "" if worker.state == "running" else f"  {worker.state}"
        state += "" if worker.is_booted else "  booting"
        beat = "-" if worker.heartbeat is None else f"{duration(worker.heartbeat)} ago"
        memory = worker.pss or worker.memory
        yield [
            (f"{worker.number}/{worker.pid:<10} {duration(worker.age):>9}", ""),
            (f" {count(worker.requests):>9}  {worker.busy:>4} ", ""),
            (f"{size(memory) if memory else '-':>8}   {beat}", ""),
            (state, "error"),
        ]


def request_rows(requests: Iterable[LiveRequest], width: int) -> Iterator[Row]:
    """Yield a table of open requests, cut to a width."""
    rest = max(width - 9 - 12, 40)
    asked = max(rest * 3 // 10, 14)
    routed = max(rest * 2 // 10, 10)
    last = max(rest - asked - routed - 12, 10)
    yield [
        (
            f"{'AGE':>8}  {'WORKER':<10} {'REQUEST':<{asked}} {'ROUTE':<{routed}} {'QUERIES':>7}  LAST",
            "dim",
        )
    ]
    for request in requests:
        style = "error" if request.age >= VERY_OLD_S else "warning" if request.age >= OLD_S else ""
        what = f"{request.method or '?'} {request.path or '(not known)'}"
        yield [
            (f"{duration(request.age):>8}", style),
            (f"  {f'{request.worker}/{request.worker_pid}':<10} ", "dim"),
            (f"{_fit(what, asked)} ", ""),
            (f"{_fit(request.route or '-', routed)} ", "place"),
            (f"{count(request.queries):>7}  ", ""),
            (_cut(_last(request), last), "dim"),
        ]


def _last(request: LiveRequest) -> str:
    if request.waits_in is None:
        return request.sql or ""
    waits = f"{duration(request.waits or 0.0)}"
    if request.waits_in == "query":
        return f"({waits}) {request.sql or ''}"
    return f"({request.waits_in} {waits})"


def stack_rows(places: Sequence[Whereabouts], *, all_frames: bool) -> Iterator[Row]:
    """Yield the requests of a pool by where they are, the app's lines marked."""
    for place in places:
        requests = place.requests
        ages = [request.age for request in requests]
        span = duration(max(ages))
        if len(requests) > 1:
            span += f" to {duration(min(ages))}"
        names = {f"{r.method or '?'} {r.route or r.path or ''}" for r in requests}
        title = (
            f"{counted(len(requests), 'request')}, {span}: {visible(', '.join(sorted(names)[:3]))}"
        )
        yield [(title, "bold"), (f"   (told by {place.told_by})" if place.told_by else "", "dim")]
        if place.note:
            yield [(f"    {place.note}", "warning")]
        for number, (file, line, function, is_app) in enumerate(place.frames):
            # Around the app's frames, what called them and what they wait in.
            if not all_frames and not is_app and not _is_near(place, number):
                continue
            source = linecache.getline(file, line).strip() if is_app else ""
            text = f"{_short(file)}:{line} in {function}"
            yield [
                (f"  {'>' if is_app else ' '} {visible(text):<44}", "place" if is_app else "dim"),
                (f" {visible(source)}" if source else "", ""),
            ]


def _is_near(place: Whereabouts, number: int) -> bool:
    apps = [n for n, frame in enumerate(place.frames) if frame[3]]
    inner = place.frames[number + 1 :]
    if not apps:
        return len(inner) < 6
    return number > apps[-1] and (len(inner) < 2 or number == apps[-1] + 1)


def _short(file: str) -> str:
    for marker in ("/site-packages/", "/dist-packages/", "/lib/python"):
        _, found, rest = file.rpartition(marker)
        if found:
            return rest.partition("/")[2] if marker == "/lib/python" else rest
    return file


def sparkline(values: Sequence[int | None], width: int) -> str:
    """Return the last values as a row of bars; what is unknown is a gap."""
    shown = list(values)[-width:]
    top = max([value for value in shown if value is not None], default=0)
    bars = [
        " " if value is None else _BLOCKS[0 if not top else value * (len(_BLOCKS) - 1) // top]
        for value in shown
    ]
    return "".join(bars)


def _fit(text: str, width: int) -> str:
    text = _cut(text, width)
    return text + " " * (width - cells(text))


def _cut(text: str, width: int) -> str:
    text = visible(text)
    if cells(text) <= width:
        return text
    while text and cells(text) > width - 1:
        text = text[:-1]
    return text + "…"
