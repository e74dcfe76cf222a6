"""The bookkeeping of a request's places: what doesn't overlap adds up, what does is said."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from otel_canonical.request.places import PlacesSoFar
from otel_canonical.request.scope import RequestScope

#: A stretch of work: time of its own in front, what is inside, time of its own behind.
WORK = st.recursive(
    st.tuples(st.sampled_from(["query", "cache"]), st.integers(0, 50), st.just(())),
    lambda inside: st.tuples(
        st.sampled_from(["template", "cache"]), st.integers(0, 50), st.lists(inside, max_size=3)
    ),
    max_leaves=12,
)


class Request:
    """A request on a clock that only we move."""

    def __init__(self) -> None:
        self.places = RequestScope("GET", "/", {})
        self.now_ns = 0
        self.measured_ns = 0

    def do(self, kind: str, own_ns: int, inside: object) -> None:
        """Spend time as the probes in Django would see it."""
        entered_ns, started_ns = self.places.accounted_ns, self.now_ns
        self.now_ns += own_ns
        for part in inside:  # type: ignore[attr-defined]
            self.do(*part)
        elapsed_ns = self.now_ns - started_ns
        if kind == "template":
            self.places.template_own_ns += self.places.leave(entered_ns, elapsed_ns)
        else:
            self.measured_ns += elapsed_ns
            if kind == "query":
                self.places.accounted_ns += elapsed_ns
            else:
                self.places.leave_measured(entered_ns, elapsed_ns)


@given(st.lists(WORK, max_size=4), st.integers(0, 50))
def test_places_add_up_when_one_thread_does_it_all(work: list[object], own_ns: int) -> None:
    """To the nanosecond; what is measured twice, a part inside another, is the overlap."""
    request = Request()
    places = request.places
    places.view_mark_ns = -1
    request.now_ns += own_ns
    for part in work:
        request.do(*part)  # type: ignore[misc]
    places.leave_view(request.now_ns - 1)
    together = places.view_ns + places.template_own_ns + request.measured_ns
    assert together == request.now_ns + places.overlap_ns
    assert min(places.view_ns, places.template_own_ns, places.overlap_ns) >= 0
    assert places.accounted_ns == request.now_ns


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 40))
def test_calls_side_by_side_count_once(first_ns: int, gap_ns: int, second_ns: int) -> None:
    """Two calls that begin together, or one behind the other: what both take at once is the overlap."""
    places = RequestScope("GET", "/", {})
    # Both are under way before one ends.
    places.leave_measured(0, first_ns)
    places.leave_measured(0, first_ns + gap_ns + second_ns)
    assert places.accounted_ns == first_ns + gap_ns + second_ns
    assert places.overlap_ns == first_ns


def test_overlap_is_said_when_work_is_done_side_by_side() -> None:
    """Two queries of 40 in two threads, in a view of 50: 30 are counted twice, and nothing is negative."""
    places = RequestScope("GET", "/", {})
    places.accounted_ns += 40
    places.accounted_ns += 40
    assert places.leave(0, 50) == 0
    assert (places.accounted_ns, places.overlap_ns) == (50, 30)


def test_places_of_a_request_that_still_runs_end_now() -> None:
    """They are shown as if; the request goes on."""
    places = RequestScope("GET", "/", {})
    places.accounted_ns = 5
    places.handler_mark_ns = 100 - places.accounted_ns
    places.accounted_ns += 7
    places.view_mark_ns = 120 - places.accounted_ns
    places.accounted_ns += 11
    shown = places.so_far(1000)
    assert shown == PlacesSoFar(accounted_ns=905, overlap_ns=0, mw_ns=13, view_ns=869)
    assert shown.accounted_ns == 5 + 7 + 11 + shown.mw_ns + shown.view_ns
    assert (places.view_ns, places.mw_ns, places.accounted_ns) == (0, 0, 23)


def test_running_places_have_no_time_that_is_measured_side_by_side() -> None:
    """More was measured inside than the clock says: the rest is the overlap, not a negative time."""
    places = RequestScope("GET", "/", {})
    places.handler_mark_ns = places.view_mark_ns = 100
    places.accounted_ns = 70
    assert places.so_far(150) == PlacesSoFar(accounted_ns=50, overlap_ns=20, mw_ns=0, view_ns=0)
