"""One line as a person reads it: a headline, below it only what is worth saying. Pure.

What is ordinary is left out: a request that queried little, waited for nothing and met no error is one
row. The thresholds for "worth saying" are the constants below.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from otel_canonical.event.logfmt import as_text
from otel_canonical.reading.filters import number
from otel_canonical.reading.recognise import Fields
from otel_canonical.reading.wording import count, counted, duration, share, size, visible

#: A piece of text and the name of its style, a key of `screen.STYLES`.
Piece = tuple[str, str]

#: Repeated queries on lines that don't name the worst of them.
SUSPECT_REPEATS = 5
#: A part of the time is worth a word when it is this share of a request that took this long.
LARGE_SHARE = 0.5
LONG_S = 0.1
#: The same for what no request should wait for: a CPU, garbage collection.
WASTED_SHARE = 0.2
WASTED_S = 0.01
LONG_QUEUE_S = 0.05
#: Of a long request: in which state, and in which place of the app's.
SHARES = {
    "resp_blocked": "blocked {}",
    "resp_cpu_time": "CPU {}",
    "mw_time": "{} in middleware",
    "view_time": "{} in the view",
    "tpl_self_time": "{} in templates",
    "body_time": "{} streaming the body",
}
#: Of a stack, the innermost: below them come Django's middleware and Gunicorn, forty frames of them.
FRAMES = 6

DEAD = "✗✗✗"
_OWN_KEYS = ("ts", "event_type")


@dataclass(frozen=True, slots=True)
class LineView:
    """What is shown of one line."""

    time: str
    #: Status or mark, and what was asked for.
    head: tuple[Piece, Piece]
    #: How it ended and how long it took, at the right margin.
    end: Piece
    #: Paragraphs of pieces, each folded on its own.
    details: list[list[Piece]] = field(default_factory=list)


def view(fields: Fields, *, is_verbose: bool = False) -> LineView:
    """Return what is shown of a line; `is_verbose` adds every key."""
    kind = str(fields["event_type"])
    clock = str(fields["ts"]).partition("T")[2].removesuffix("Z")
    if kind == "pool":
        shown = LineView(clock, (("pool", "dim"), (" · ".join(_pool_words(fields)), "")), ("", ""))
    else:
        shown = LineView(clock, _head(kind, fields), _end(kind, fields), [*_details(kind, fields)])
    if is_verbose:
        pairs = " ".join(
            f"{key}={as_text(value)}" for key, value in fields.items() if key not in _OWN_KEYS
        )
        shown.details.append([(pairs, "dim")])
    return LineView(
        visible(shown.time),
        (_clean(shown.head[0]), _clean(shown.head[1])),
        _clean(shown.end),
        [[_clean(piece) for piece in paragraph] for paragraph in shown.details],
    )


def _clean(piece: Piece) -> Piece:
    return visible(piece[0]), piece[1]


def _text(fields: Fields, key: str) -> str:
    value = fields.get(key)
    return "" if value is None else as_text(value)


def _head(kind: str, fields: Fields) -> tuple[Piece, Piece]:
    path = _text(fields, "req_path")
    if query := _text(fields, "req_query"):
        path += f"?{query}"
    asked = f"{_text(fields, 'req_method')} {path}".strip(" ")
    if kind in ("timeout", "lost"):
        return (DEAD, "error"), (asked, "bold")
    if kind == "slow":
        return ("...", "warning"), (asked, "")
    if kind == "partial_failure":
        return ("~~~", "warning"), (f"of request {_text(fields, 'req_id')}", "dim")
    if kind != "request":
        return (kind, "dim"), (asked or _text(fields, "req_id"), "")
    status = _text(fields, "resp_status")
    style = {"5": "error", "4": "warning", "3": "redirect", "2": "good"}.get(status[:1], "warning")
    return (status or "---", style), (asked, "bold" if style == "error" else "")


def _end(kind: str, fields: Fields) -> Piece:
    elapsed = number(fields, "resp_time")
    took = "" if elapsed is None else duration(elapsed)
    if kind == "timeout":
        return f"timeout {took}".strip(), "error"
    if kind == "lost":
        return f"lost, {_text(fields, 'lost_cause')} {took}".strip(), "error"
    if kind == "slow":
        return f"running {took}", "warning"
    if kind == "partial_failure":
        return "survived", "warning"
    return took, "warning" if elapsed is not None and elapsed >= 1 else ""


def _details(kind: str, fields: Fields) -> Iterator[list[Piece]]:
    yield from _error(fields)
    yield from _sighting(kind, fields)
    yield from _queries(fields)
    words = [*_waits(fields), *_asides(fields)]
    if pool := _pool_trouble(kind, fields):
        words.append(pool)
    if words:
        yield [(" · ".join(words), "")]


def _error(fields: Fields) -> Iterator[list[Piece]]:
    if kind := _text(fields, "exc_type"):
        message = _text(fields, "exc_msg")
        yield [(f"{kind}: " if message else kind, "error"), (message, "")]
        cause, outer = _text(fields, "exc_cause_loc"), _text(fields, "exc_loc")
        if template := _text(fields, "exc_template"):
            outer = f"{outer}, in {template}" if outer else template
        if cause:
            pieces = [("at ", ""), (cause, "place")]
            if outer and outer != cause:
                pieces += [(f", from {outer}", "")]
            yield pieces


def _sighting(kind: str, fields: Fields) -> Iterator[list[Piece]]:
    """Yield where a request was when it was looked at."""
    name = {"slow": "slow", "lost": "lost"}.get(kind, "timeout")
    place = _text(fields, f"{name}_cause_loc") or _text(fields, f"{name}_loc")
    if not place:
        return
    verb = "stuck at " if kind in ("timeout", "lost") else "at "
    if kind == "request":
        verb = "past its deadline at "
    pieces = [(verb, ""), (place, "place")]
    outer = _text(fields, f"{name}_loc")
    if outer and outer != place:
        pieces.append((f", from {outer}", ""))
    if (seen := number(fields, "timeout_seen")) is not None and name == "timeout":
        pieces.append((f" (seen after {duration(seen)})", ""))
    yield pieces
    if kind == "slow" and (stack := _text(fields, "slow_stack")):
        frames = stack.split(" < ")
        rest = [f"{len(frames) - FRAMES} more"] if len(frames) > FRAMES else []
        yield [(" < ".join([*frames[:FRAMES], *rest]), "dim")]


def _queries(fields: Fields) -> Iterator[list[Piece]]:
    elapsed = number(fields, "resp_time") or 0.0
    queries = number(fields, "db_queries") or 0.0
    spent = sum(
        number(fields, key) or 0.0
        for key in ("db_time", "db_fetch_time", "db_connect_time", "db_txn_time")
    )
    asked = f"{counted(queries, 'query')} {duration(spent)}"
    if text := _text(fields, "db_n1"):
        runs = number(fields, "db_n1_count") or 0.0
        yield [(f"{asked} · ", ""), (f"{count(runs)}x ", "warning"), (text, "")]
        if place := _text(fields, "db_n1_loc"):
            yield [("at ", ""), (place, "place")]
    elif (repeats := number(fields, "db_dup_queries") or 0.0) >= SUSPECT_REPEATS:
        yield [(f"{asked} · ", ""), (f"{count(repeats)} of them repeated", "warning")]
    elif elapsed >= LONG_S and spent >= LARGE_SHARE * elapsed:
        yield [(f"database {share(spent / elapsed)} of the time: {asked}", "")]
    if (slowest := number(fields, "db_slowest_time")) is not None and slowest >= LONG_S:
        yield [(f"slowest query {duration(slowest)}: ", ""), (_text(fields, "db_slowest"), "")]
        if place := _text(fields, "db_slowest_loc"):
            yield [("at ", ""), (place, "place")]
    if errors := number(fields, "db_errors"):
        yield [(f"{counted(errors, 'query')} failed", "error")]


def _waits(fields: Fields) -> Iterator[str]:
    """Yield where the time went, as far as it went to one thing."""
    elapsed = number(fields, "resp_time") or 0.0
    spent = number(fields, "http_time") or 0.0
    if (spent >= LARGE_SHARE * elapsed and elapsed >= LONG_S) or number(fields, "http_errors"):
        calls = counted(number(fields, "http_calls") or 0.0, "outgoing call")
        failed = f", {count(errors)} failed" if (errors := number(fields, "http_errors")) else ""
        yield f"{calls} {duration(spent)}{failed}"
    if elapsed >= LONG_S:
        for key, words in SHARES.items():
            if (spent := number(fields, key) or 0.0) >= LARGE_SHARE * elapsed:
                yield words.format(duration(spent))
    for key, words in (("resp_cpu_wait", "waited for a CPU"), ("gc_time", "garbage collection")):
        wasted = number(fields, key) or 0.0
        if wasted >= WASTED_S and wasted >= WASTED_SHARE * elapsed:
            yield f"{words} {duration(wasted)}"
    if (queued := number(fields, "req_queue_time") or 0.0) >= LONG_QUEUE_S:
        yield f"queued {duration(queued)} before Gunicorn"


def _asides(fields: Fields) -> Iterator[str]:
    if _text(fields, "client_gone") == "true":
        yield "client gone"
    if imported := number(fields, "imports"):
        yield f"{counted(imported, 'module')} imported"
    if grown := number(fields, "mem_growth"):
        yield f"memory +{size(grown)}"
    logged = [
        counted(many, noun)
        for key, noun in (("log_errors", "error"), ("log_warnings", "warning"))
        if (many := number(fields, key))
    ]
    if logged:
        yield " and ".join(logged) + " logged"
    messages = [number(fields, f"ws_messages_{way}") for way in ("in", "out")]
    if any(many is not None for many in messages):
        yield f"websocket: {count(messages[0] or 0)} in, {count(messages[1] or 0)} out"
    if _text(fields, "truncated") == "true":
        yield "line shortened"


def _pool_trouble(kind: str, fields: Fields) -> str:
    """Return how full the pool was, when it was or when the request ended badly."""
    waiting = number(fields, "g_t_waiting") or 0.0
    backlog = number(fields, "g_backlog") or 0.0
    active, total = number(fields, "g_t_active"), number(fields, "g_t_count")
    if total is None:
        active, total = number(fields, "g_w_active"), number(fields, "g_w_count")
    is_full = active is not None and total is not None and active >= total > 1
    opened = _text(fields, "g_open")
    if not (is_full or waiting or backlog or (opened and kind != "request")):
        return ""
    words = []
    if active is not None and total is not None:
        words.append(f"pool {count(active)} of {count(total)} busy")
    if waiting:
        words.append(f"{count(waiting)} waiting")
    if backlog:
        words.append(f"backlog {count(backlog)}")
    if opened:
        words.append(f"open: {opened}")
    return " · ".join(words)


def _pool_words(fields: Fields) -> Iterator[str]:
    for active, total, noun in (
        ("g_w_active", "g_w_count", "workers"),
        ("g_t_active", "g_t_count", "slots"),
    ):
        busy, all_of = number(fields, active), number(fields, total)
        if busy is not None and all_of is not None:
            yield f"{count(busy)} of {count(all_of)} {noun} busy"
    if (used := number(fields, "g_utilization")) is not None:
        yield f"{used * 100:.0f} % busy since the last"
    for key, noun in (("g_t_waiting", "waiting"), ("g_backlog", "in the backlog")):
        if many := number(fields, key):
            yield f"{count(many)} {noun}"
    for key in fields:
        many = number(fields, key)
        if many and key.startswith("g_w_died_"):
            yield f"{count(many)} died: {key.removeprefix('g_w_died_')}"
        elif many and key in ("g_lines_dropped", "g_lines_shortened", "g_lines_unshown"):
            yield f"{counted(many, 'line')} {key.removeprefix('g_lines_')}"
