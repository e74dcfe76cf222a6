"""A worker's place in the pool: given out by the ledger before the fork, taken back after the death."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from otel_canonical.pool.query_texts import QueryTexts
from otel_canonical.pool.scoreboard import Scoreboard
from otel_canonical.pool.slots import Slot


@dataclass(frozen=True, slots=True)
class Place:
    """A worker's place: a block of a scoreboard, a number in the pool, a file for its crash dump.

    Attributes:
        scoreboard: where its open requests are shown.
        block: which block of it.
        number: the lowest that was free; the worker keeps it for life.
        stacks: a file descriptor; None where there is no memfd.
    """

    scoreboard: Scoreboard
    block: int
    number: int
    stacks: int | None = None

    def slots(self) -> list[Slot]:
        """Return the slots of the block that were ever used, for the arbiter to read."""
        return self.scoreboard.slots_of(self.block)

    def new_slot(self) -> Slot | None:
        """Return a slot that was never used, for the worker to write; None if all were."""
        return self.scoreboard.new_slot(self.block)

    def slot_maker(self, shorten: Callable[[str], str]) -> Callable[[], Slot | None]:
        """Return a variant of `new_slot` whose slots show SQL; `shorten` makes of it what may be shown."""
        scoreboard = self.scoreboard
        texts = QueryTexts(scoreboard.memory, scoreboard.layout.texts_of(self.block), shorten)

        def make() -> Slot | None:
            slot = self.new_slot()
            if slot is not None:
                slot.sql_texts = texts
            return slot

        return make

    def words(self) -> memoryview[int]:
        """Return the words of the block, see `counters`."""
        return self.scoreboard.counters.of_block(self.block)

    def counts(self) -> memoryview[int]:
        """Return where the worker counts its lines, by `counters.COUNTS`."""
        return self.scoreboard.counters.counts_of(self.block)
