"""Where a request spent its time: places that don't overlap. Pure.

What is measured by itself (a query, a look-up, a call) adds its time to `accounted_ns`. A place around
it (a template, the view, middleware) is its own time without what was accounted inside; on leaving it
accounts for all of it. So the clock less `accounted_ns` stands still inside of everything that is
accounted: by how much it grows between two moments is a place's own time. What it shows when a place
is entered is the place's mark.

What runs side by side, in threads or tasks, or is measured twice, because it is inside another (a cache
in a database), is more than the clock says: `overlap_ns` is how much.
"""

from __future__ import annotations

from typing import NamedTuple


class PlacesSoFar(NamedTuple):
    """The places of a request as they would be if all that runs ended now, in nanoseconds."""

    accounted_ns: int
    overlap_ns: int
    mw_ns: int
    view_ns: int


class Places:
    """The times of one request by place, in nanoseconds. Its clock is `time.perf_counter_ns`.

    `request.scope` sets all of it at once. `django.handler` and `django.view_times` leave handler and
    view themselves, without a call, as `leave` does.
    """

    __slots__ = (
        *("accounted_ns", "body_ns", "handler_mark_ns", "mw_ns", "overlap_ns", "template_own_ns"),
        *("view_callback", "view_mark_ns", "view_ns"),
    )

    #: What is accounted for so far, by places and by what is measured by itself.
    accounted_ns: int
    #: How much of that is counted more than once.
    overlap_ns: int
    mw_ns: int
    view_ns: int
    template_own_ns: int
    body_ns: int
    #: The marks of Django's handler and of the view; 0 = not entered, or left.
    handler_mark_ns: int
    view_mark_ns: int
    #: The view that runs.
    view_callback: object

    def leave(self, entered_ns: int, elapsed_ns: int) -> int:
        """Account for a place that was entered; return its time without what was accounted inside.

        Args:
            entered_ns: `accounted_ns` when it was.
            elapsed_ns: how long it took.
        """
        accounted_ns = entered_ns + elapsed_ns
        own_ns = accounted_ns - self.accounted_ns
        self.accounted_ns = accounted_ns
        if own_ns >= 0:
            return own_ns
        # More was measured inside than there was time: side by side.
        self.overlap_ns -= own_ns
        return 0

    def leave_measured(self, entered_ns: int, elapsed_ns: int) -> None:
        """Account for what is measured by itself, and may have measured parts: those are counted twice."""
        self.overlap_ns += self.accounted_ns - entered_ns
        self.accounted_ns = entered_ns + elapsed_ns

    def leave_view(self, now_ns: int) -> None:
        """Note that the view has ended, if one runs."""
        if self.view_mark_ns:
            elapsed_ns = now_ns - self.view_mark_ns
            self.view_mark_ns = 0
            # What is added is read behind the call, which may change it.
            own_ns = self.leave(0, elapsed_ns)
            self.view_ns += own_ns

    def so_far(self, now_ns: int) -> PlacesSoFar:
        """Return the places as they would be if all that runs ended now."""
        accounted_ns, overlap_ns = self.accounted_ns, self.overlap_ns
        own_ns = {"view": 0, "mw": 0}
        # The inner one first.
        for name, mark_ns in (("view", self.view_mark_ns), ("mw", self.handler_mark_ns)):
            if mark_ns:
                own_ns[name] = max(now_ns - mark_ns - accounted_ns, 0)
                overlap_ns += max(accounted_ns - (now_ns - mark_ns), 0)
                accounted_ns = now_ns - mark_ns
        return PlacesSoFar(
            accounted_ns, overlap_ns, self.mw_ns + own_ns["mw"], self.view_ns + own_ns["view"]
        )
