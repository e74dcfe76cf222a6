"""A worker's slots that no request has, and those that an interruption has lost.

A signal handler of the app's may raise between any two calls of ours, also behind the taking of a slot and
before the request has it. A slot that is lost is missing when a later request should be shown to the
arbiter, so that nothing would tell of it if its worker were killed.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable

from otel_canonical.event.sql_text import shown_sql
from otel_canonical.pool.place import Place
from otel_canonical.pool.slots import IDLE, Slot
from otel_canonical.request.scope import RequestScope


class SlotStock:
    """The slots of a worker, made when they are needed.

    Args:
        place: the worker's; None has no slots.
    """

    def __init__(self, place: Place | None) -> None:
        #: Those that were used and that no request has.
        self.free: list[Slot] = []
        self._made: list[Slot] = []
        self._make = place.slot_maker(shown_sql) if place is not None else None

    def new(self) -> Slot | None:
        """Return a slot that was never used; None if there is none."""
        slot = self._make() if self._make is not None else None
        if slot is not None:
            self._made.append(slot)
        return slot

    def take_back(self, open_requests: Iterable[RequestScope]) -> None:
        """Free each slot that no open request has, after an interruption.

        Only in the main thread: where it serves requests no other thread does, which might be about to
        give a slot back.
        """
        if threading.get_native_id() != os.getpid():
            return
        known = {id(slot) for slot in self.free}
        known.update([id(scope.slot) for scope in open_requests])
        for slot in self._made:
            if id(slot) not in known:
                if slot.state() != IDLE:
                    slot.close(time.monotonic_ns())
                self.free.append(slot)
