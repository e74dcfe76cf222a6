"""Lines of thousands of requests of every kind: the quick way of writing says what the event's fields say."""

from __future__ import annotations

import math
import random
from collections import Counter
from typing import Any

import pytest

from otel_canonical.event import logfmt
from otel_canonical.event.event import CanonicalEvent, EventType
from otel_canonical.event.redaction import RedactionPolicy
from otel_canonical.event.rows import JoinedRow, apart
from otel_canonical.otel.unexported_root import UnexportedRoot, UnnamedRoot
from otel_canonical.pool.scoreboard import PoolState
from otel_canonical.process.garbage import collections
from otel_canonical.request.composer import Composer
from otel_canonical.request.scope import RequestScope, StackSample
from otel_canonical.settings import Settings
from otel_canonical.stacks import errors

TEXTS = (
    *("", "ok/", "a b", 'q"uote', "back\\slash", "ü", "\x1b[2J", "new\nline", "x" * 250, "k=v"),
    *("\u202e", "日本", "Mozilla/5.0 (X11; Linux)"),
)

#: So many of each seed.
LINES = 1000


class Requests:
    """Makes requests by chance, of which about half are ordinary."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)

    def _ns(self) -> int:
        pick = self._chance
        edges = (0, 1, 499, 500, 999_999_499, 999_999_500, 10**9)
        return pick.choice((*edges, pick.randrange(10**7), pick.randrange(10**10)))

    def _text(self) -> str:
        return self._chance.choice((*TEXTS, f"r{self._chance.randrange(10**4)}"))

    def one(self) -> RequestScope:
        """Return a request that has ended."""
        pick = self._chance
        is_ordinary = pick.random() < 0.5
        share = 1.0 if is_ordinary else 0.6

        def maybe(value: Any, how_often: float = share) -> Any:
            return value if pick.random() < how_often else None

        headers = {"HOST": "a:80", "USER-AGENT": self._text(), "REFERER": self._text()}
        headers = {name: value for name, value in headers.items() if pick.random() < share}
        paths = ("/ok/", "/ok/", "/a b", "", "/" + self._text())
        scope = RequestScope(
            pick.choice(("GET", "POST", "PUT", "BREW")), pick.choice(paths), headers
        )
        scope.ended_ns = maybe(scope.started_ns + self._ns())
        scope.ended_cpu_ns = maybe(scope.started_cpu_ns + self._ns())
        scope.waited = maybe(b"1 2 3\n")
        scope.ended_waited = maybe(pick.choice((b"1 2 3\n", b"1 %d 4\n" % (2 + self._ns()))))
        scope.modules = 10**6
        scope.django_request = maybe(object())
        scope.collected = collections.totals
        scope.accounted_ns = 0 if is_ordinary else self._ns()
        scope.mw_ns, scope.view_ns = self._ns(), self._ns()
        scope.status = maybe(pick.choice((200, 404, 500)))
        scope.bytes_written = maybe(pick.randrange(10**7))
        scope.first_byte_ns = maybe(scope.started_ns + self._ns())
        scope.route, scope.view = maybe(self._text()), maybe(self._text())
        scope.user_id, scope.client = maybe(self._text(), 0.3), maybe(self._text())
        scope.host, scope.scheme, scope.proto = maybe("a"), maybe("https"), maybe("1.1")
        scope.content_length, scope.queue_s = maybe(17, 0.2), maybe(pick.random(), 0.2)
        scope.url_kwargs = maybe({"pk": "3"}, 0.3)
        scope.pid, scope.worker_requests = maybe(5), maybe(pick.randrange(10**6))
        scope.request_id = pick.choice(("0123456789abcdef" * 2, "id:1"))
        scope.has_context_headers = scope.request_id == "id:1"
        unnamed, named = UnnamedRoot("ab" * 24), UnexportedRoot("a" * 32, "b" * 16, None)
        scope.root = pick.choice((unnamed, named))
        backlog, waiting = pick.choice((None, 0, 3)), pick.choice((None, 0, 5))
        scope.pool = maybe(PoolState(2, 1, pick.choice((None, 8)), 1, backlog, waiting))
        for _ in range(pick.choice((0, 0, 6))):
            scope.add_query(self._text(), self._ns() // 1000, failed=False)
        if pick.random() < 0.2:
            scope.template_renders, scope.template_ns = 2, self._ns()
        if pick.random() < 0.2:
            scope.set_app("plan", self._text())
        if not is_ordinary:
            self._add_trouble(scope)
        return scope

    def _add_trouble(self, scope: RequestScope) -> None:
        pick = self._chance
        scope.overlap_ns = self._ns()
        scope.client_gone = pick.random() < 0.2
        if pick.random() < 0.2:
            scope.error = errors.of_error(ValueError(self._text()))
        if pick.random() < 0.2:
            sample = StackSample(scope.started_ns + self._ns(), "a.py:1:f", self._text(), "a\nb")
            scope.stuck = sample
        if pick.random() < 0.2:
            scope.neighbours = Counter({"b/": 3})
        scope.log_warnings = pick.choice((0, 2))


def texts_of(event: CanonicalEvent) -> dict[str, str]:
    """Return the fields of an event as a line has them, numbers as `same` compares them."""
    return {key: logfmt.as_text(value) for key, value in event.pairs}


def is_same(written: str, text: str) -> bool:
    """Return whether two texts are equal, or are the same number."""
    if written == text:
        return True
    return math.isclose(float(written), float(text), rel_tol=1e-9, abs_tol=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_line_says_what_its_fields_say(seed: int) -> None:
    """In their order; written in one step as if row by row."""
    requests = Requests(seed)
    composer = Composer(Settings(), RedactionPolicy(()))
    whole = 0
    for _ in range(LINES):
        event_type = random.Random(seed).choice((EventType.REQUEST, EventType.TIMEOUT))
        event = composer.request_event(requests.one(), event_type)
        line = event.as_logfmt()
        found, expected = logfmt.parse(line), texts_of(event)
        assert list(found) == list(expected)
        assert all(is_same(found[key], expected[key]) for key in found), (line, expected)
        rows = [row.as_logfmt(values) for row, values in apart(event._rows)]
        assert line == " ".join([text for text in rows if text])
        assert event.size() >= len(event.attributes())
        whole += len(event._rows) == 1 and isinstance(event._rows[0][0], JoinedRow)
    # Both ways are taken.
    assert LINES // 100 < whole < LINES // 2
