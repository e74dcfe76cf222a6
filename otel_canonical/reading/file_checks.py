"""What must hold for lines together: one ending for each request, counts that reconcile. Pure."""

from __future__ import annotations

import bisect
import itertools
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from otel_canonical.reading.filters import number
from otel_canonical.reading.line_checks import ENDINGS, moment
from otel_canonical.reading.recognise import Fields
from otel_canonical.reading.wording import count, counted

DOUBLED = "a request has two endings"
OPEN = "a partial failure's request has no ending, though the file goes on"
NOT_RECONCILED = "the pool counted other lines than there are"
DROPPED = "the pool says that lines were lost"
BACKWARDS = "the time goes back"

#: Two lines with one id and other workers or starts: the client sent its id twice.
_SAME_START_S = 1.0
#: A line may stand a little before or behind the `pool` line that counts it.
_RACE_S = 0.1
#: So long after a partial failure its request has ended.
_ENDED_S = 60.0
#: Lines of several workers come in nearly the order of their times.
_BACK_S = 60.0
_COUNTED = (*ENDINGS, "slow", "partial_failure")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a line stands."""

    file: str
    number: int

    def __str__(self) -> str:
        return f"{self.file}:{self.number}"


@dataclass(slots=True)
class _Pool:
    at: float
    place: Place
    counts: dict[str, int]
    #: How many lines of each kind stand before it.
    seen: dict[str, int]


@dataclass(slots=True)
class FileChecks:
    """What has been seen of the lines so far."""

    kinds: Counter[str] = field(default_factory=Counter)
    #: Requests whose id came again with another request.
    resent: int = 0
    _endings: dict[str, tuple[float, object, object, Place]] = field(default_factory=dict)
    _survived: dict[str, tuple[float, Place]] = field(default_factory=dict)
    _numbers: defaultdict[object, set[int]] = field(default_factory=lambda: defaultdict(set))
    _times: list[float] = field(default_factory=list)
    _pools: list[_Pool] = field(default_factory=list)
    _last: dict[str, float] = field(default_factory=dict)

    def add(self, fields: Fields, place: Place) -> Iterator[tuple[str, str]]:
        """Take a line in; yield its faults against those before it."""
        kind = str(fields["event_type"])
        self.kinds[kind] += 1
        at = moment(fields)
        if at is not None:
            if at < self._last.get(place.file, at) - _BACK_S:
                yield BACKWARDS, f"ts={fields['ts']}"
            self._last[place.file] = max(at, self._last.get(place.file, at))
        if kind in ENDINGS:
            yield from self._ending(fields, at, place)
        elif kind == "partial_failure" and at is not None:
            self._survived[str(fields.get("req_id"))] = (at, place)
        if kind == "pool":
            yield from self._pool(fields, at, place)
        elif kind in _COUNTED and at is not None:
            self._times.append(at)

    def finish(self) -> Iterator[tuple[str, str, Place]]:
        """Yield the faults that show at the end, each with its line."""
        last = max(self._last.values(), default=0.0)
        for request_id, (at, place) in self._survived.items():
            if request_id not in self._endings and at < last - _ENDED_S:
                yield OPEN, f"req_id={request_id}", place
        yield from self._reconcile()

    def missing(self) -> int:
        """Return how many numbers of workers' requests no line has: excluded URLs, or lost lines."""
        return sum(
            max(numbers) - min(numbers) + 1 - len(numbers) for numbers in self._numbers.values()
        )

    @property
    def requests(self) -> int:
        """How many requests have an ending."""
        return len(self._endings) + self.resent

    def _ending(self, fields: Fields, at: float | None, place: Place) -> Iterator[tuple[str, str]]:
        request_id = fields.get("req_id")
        if request_id is None:
            return
        worker, taken = fields.get("g_pid"), fields.get("g_w_requests")
        if worker is not None and taken is not None and str(taken).isdecimal():
            self._numbers[str(worker)].add(int(taken))
        started = (at or 0.0) - (number(fields, "resp_time") or 0.0)
        mine = (started, worker, taken, place)
        known = self._endings.setdefault(str(request_id), mine)
        if known is mine:
            return
        is_same = all(
            here is None or there is None or str(here) == str(there)
            for here, there in zip(known[1:3], mine[1:3], strict=True)
        )
        if is_same and abs(known[0] - started) < _SAME_START_S:
            yield DOUBLED, f"req_id={request_id} also at {known[3]}"
        else:
            self.resent += 1

    def _pool(self, fields: Fields, at: float | None, place: Place) -> Iterator[tuple[str, str]]:
        for word in ("dropped", "unshown"):
            if many := number(fields, f"g_lines_{word}"):
                yield DROPPED, f"{counted(many, 'line')} {word}"
        if at is None:
            return
        counts = {kind: int(number(fields, f"g_lines_{kind}") or 0) for kind in _COUNTED}
        seen = {kind: self.kinds[kind] for kind in _COUNTED}
        self._pools.append(_Pool(at, place, counts, seen))

    def _reconcile(self) -> Iterator[tuple[str, str, Place]]:
        """Compare counts between `pool` lines that no other line stands close to, where there are any."""
        times = sorted(self._times)

        def close(pool: _Pool) -> int:
            low = bisect.bisect_left(times, pool.at - _RACE_S)
            return bisect.bisect_right(times, pool.at + _RACE_S) - low

        if len(self._pools) < 2:
            return
        ends = (0, len(self._pools) - 1)
        slack = [close(pool) for pool in self._pools]
        anchors = [n for n in range(len(slack)) if slack[n] == 0 or n in ends]
        for first, last in itertools.pairwise(anchors):
            before, after = self._pools[first], self._pools[last]
            for kind in _COUNTED:
                told = sum(pool.counts[kind] for pool in self._pools[first + 1 : last + 1])
                there = after.seen[kind] - before.seen[kind]
                if abs(told - there) > slack[first] + slack[last]:
                    yield (
                        NOT_RECONCILED,
                        f"{count(told)} {kind} since {before.place}, of which {count(there)} are there",
                        after.place,
                    )
