"""Which spans are made at all: what is exported as the user's sampler says, plus what we count.

Lives in the worker, around the sampler that `OTEL_TRACES_SAMPLER` names.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from typing import NamedTuple

from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_ON,
    Decision,
    ParentBased,
    ParentBasedTraceIdRatio,
    Sampler,
    SamplingResult,
    StaticSampler,
    TraceIdRatioBased,
)
from opentelemetry.trace import Link, SpanKind, TraceState
from opentelemetry.util.types import Attributes

from otel_canonical.otel.root_span import SCOPE_KEY

#: Kinds of span that a line counts: calls that leave the process.
COUNTED_KINDS = frozenset((SpanKind.CLIENT, SpanKind.PRODUCER))


class Rates(NamedTuple):
    """The probability with which a request's root is sampled; None where it can't be known."""

    without_caller: float | None
    with_caller: float | None


def rates_of(sampler: Sampler | None) -> Rates:
    """Return what the SDK's own samplers say of their rates.

    A sampler that obeys the caller has the caller's rate, which nobody tells us.
    """
    if isinstance(sampler, TraceIdRatioBased):
        return Rates(sampler.rate, sampler.rate)
    if isinstance(sampler, StaticSampler):
        rate = 1.0 if sampler.get_description() == ALWAYS_ON.get_description() else 0.0
        return Rates(rate, rate)
    if isinstance(sampler, ParentBased):
        return Rates(rates_of(getattr(sampler, "_root", None)).without_caller, None)
    return Rates(None, None)


def bound_of(sampler: Sampler | None) -> int | None:
    """Return from which trace id on a root without a caller is dropped; None if only asking tells.

    Compared with the lower 64 bits of the id, as `TraceIdRatioBased` does: asked in its place, for it is
    asked for every request, and most of its answers are that one.
    """
    if type(sampler) in (ParentBased, ParentBasedTraceIdRatio):
        sampler = getattr(sampler, "_root", None)
    return sampler.bound if type(sampler) is TraceIdRatioBased else None


class CountingSampler(Sampler):
    """Obeys another sampler for what is exported, and has a request's calls recorded regardless.

    `AlwaysRecordSampler` would do the same for every span: at a ratio of 1 % that is to pay for all
    the spans of the other 99 %. A line counts calls only, so only they are recorded.

    Args:
        sampler: decides what is exported; None when nothing is.
        records_all: whether all spans of a request are recorded: it may have to be exported when its
            outcome is known.
    """

    def __init__(self, sampler: Sampler | None, *, records_all: bool = False) -> None:
        self._sampler = sampler
        self._records_all = records_all

    def obey(self, sampler: Sampler) -> None:
        """Let `sampler` decide what is exported from now on."""
        self._sampler = sampler

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        """Return the other sampler's decision, a dropped call of a request raised to RECORD_ONLY."""
        if self._sampler is None:
            result = SamplingResult(Decision.DROP)
        else:
            result = self._sampler.should_sample(
                parent_context, trace_id, name, kind, attributes, links, trace_state
            )
        if (
            result.decision is Decision.DROP
            and (kind in COUNTED_KINDS or self._records_all)
            and otel_context.get_value(SCOPE_KEY, parent_context) is not None
        ):
            # A dropped span's attributes are dropped with it; without them we can't tell what it called.
            return SamplingResult(
                Decision.RECORD_ONLY, result.attributes or attributes, result.trace_state
            )
        return result

    def rates(self) -> Rates:
        """Return at which rates requests are sampled."""
        return rates_of(self._sampler)

    def bound(self) -> int | None:
        """Return from which trace id on a root is dropped, see `bound_of`."""
        return None if self._records_all else bound_of(self._sampler)

    def get_description(self) -> str:
        """Return the description of both samplers."""
        inner = self._sampler.get_description() if self._sampler is not None else "none"
        return f"CountingSampler({inner})"


class HeadSampler(RandomIdGenerator, Sampler):
    """Asks the sampler about a root before there is a span, and lets the root's tracer have the answer.

    Most requests are not exported, and to make a span that doesn't record costs more than all else that
    they need: ids, which are known, and a place in the context. A sampler is asked once all the same.

    Args:
        sampler: decides.
    """

    def __init__(self, sampler: CountingSampler) -> None:
        self._sampler = sampler
        self._bound: int | None = None
        #: Of the root that is about to be made in this thread, greenlet or task.
        self._answer: ContextVar[tuple[int, SamplingResult]] = ContextVar("otel_canonical_answer")

    def begin(self) -> None:
        """Take note of the sampler's bound, which changes only with what it obeys."""
        self._bound = self._sampler.bound()

    def drops(self, trace_id: int) -> bool:
        """Return True if a root without a caller is dropped; False may mean that, too."""
        return (
            self._bound is not None and trace_id & TraceIdRatioBased.TRACE_ID_LIMIT >= self._bound
        )

    def ask(
        self, context: Context, trace_id: int, name: str, attributes: Attributes
    ) -> tuple[bool, TraceState | None]:
        """Return whether a root is to be recorded, and its trace state; if so, start it next."""
        result = self._sampler.should_sample(context, trace_id, name, SpanKind.SERVER, attributes)
        if result.decision is Decision.DROP:
            return False, result.trace_state
        self._answer.set((trace_id, result))
        return True, result.trace_state

    def should_sample(self, *args: object, **kwargs: object) -> SamplingResult:
        """Return what `ask` has returned."""
        return self._answer.get()[1]

    def generate_trace_id(self) -> int:
        """Return the trace id that `ask` was asked about."""
        return self._answer.get()[0]

    def get_description(self) -> str:
        """Return the sampler's description."""
        return self._sampler.get_description()
