"""Decides which spans are made: those that the user's sampler takes, and those that a line counts.

Lives in the worker, around the sampler that `OTEL_TRACES_SAMPLER` names.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import NamedTuple

from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    Decision,
    ParentBased,
    ParentBasedTraceIdRatio,
    Sampler,
    SamplingResult,
    StaticSampler,
    TraceIdRatioBased,
)
from opentelemetry.trace import Link, Span, SpanKind, TraceState
from opentelemetry.util.types import Attributes

from otel_canonical.otel.root_span import SCOPE_KEY
from otel_canonical.otel.sdk_internals import local_sampler_of, root_sampler_of

#: Kinds of span that a line counts: outgoing calls.
COUNTED_KINDS = frozenset((SpanKind.CLIENT, SpanKind.PRODUCER))

#: The tracers of client libraries that make spans by themselves, of calls, with the kind INTERNAL.
CLIENT_TRACERS = frozenset(("elasticsearch-api",))


class Rates(NamedTuple):
    """The probability with which a request's root is sampled; None where it is unknown."""

    without_caller: float | None
    with_caller: float | None


def rates_of(sampler: Sampler | None) -> Rates:
    """Return the rates of one of the SDK's own samplers.

    A sampler that follows the caller's decision has the caller's rate, which is unknown here.
    """
    if isinstance(sampler, TraceIdRatioBased):
        return Rates(sampler.rate, sampler.rate)
    if isinstance(sampler, StaticSampler):
        rate = 1.0 if sampler.get_description() == ALWAYS_ON.get_description() else 0.0
        return Rates(rate, rate)
    if isinstance(sampler, ParentBased):
        return Rates(rates_of(root_sampler_of(sampler)).without_caller, None)
    return Rates(None, None)


def bound_of(sampler: Sampler | None) -> int | None:
    """Return the trace id from which on a root without a caller is dropped; None if it has no such bound.

    It is compared with the lower 64 bits of the id, as `TraceIdRatioBased` does. Most requests are
    decided on by this comparison, which saves asking the sampler.
    """
    if isinstance(sampler, ParentBased) and type(sampler) in (ParentBased, ParentBasedTraceIdRatio):
        sampler = root_sampler_of(sampler)
    # By identity: others of their class may record without sampling.
    if sampler is ALWAYS_ON or sampler is ALWAYS_OFF:
        return TraceIdRatioBased.get_bound_for_rate(sampler is ALWAYS_ON)
    return sampler.bound if type(sampler) is TraceIdRatioBased else None


def follows_parents(sampler: Sampler | None) -> bool:
    """Return whether a sampler takes each span below a sampled one of this process, as it is."""
    if type(sampler).__module__ != ALWAYS_ON.__module__:
        # A subclass of the SDK's samplers may do anything.
        return False
    if isinstance(sampler, ParentBased):
        return follows_parents(local_sampler_of(sampler))
    return (
        isinstance(sampler, StaticSampler)
        and sampler.get_description() == ALWAYS_ON.get_description()
    )


class CountingSampler(Sampler):
    """Follows another sampler for what is exported, and records a request's outgoing calls regardless.

    `AlwaysRecordSampler` would record every span: at a ratio of 1 % that costs the spans of the other
    99 %. A line counts calls only, so only they are recorded.

    Args:
        sampler: decides what is exported; None if nothing is.
        records_all: whether all spans of a request are recorded, because a rule may ask for it once
            its outcome is known.
    """

    def __init__(self, sampler: Sampler | None, *, records_all: bool = False) -> None:
        self._sampler = sampler
        self._records_all = records_all

    def obey(self, sampler: Sampler) -> None:
        """Follow `sampler` from now on."""
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
        """Return the other sampler's decision; a request's call that it drops becomes RECORD_ONLY."""
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
            # A sampler that drops returns no attributes. They say which system was called.
            return SamplingResult(
                Decision.RECORD_ONLY, result.attributes or attributes, result.trace_state
            )
        return result

    def rates(self) -> Rates:
        """Return the rates at which requests are sampled."""
        return rates_of(self._sampler)

    def follows_parents(self) -> bool:
        """Return whether spans below a sampled one are taken without asking, see `follows_parents`."""
        return follows_parents(self._sampler)

    def bound(self) -> int | None:
        """Return the bound of trace ids, see `bound_of`."""
        return None if self._records_all else bound_of(self._sampler)

    def get_description(self) -> str:
        """Return the description of both samplers."""
        inner = self._sampler.get_description() if self._sampler is not None else "none"
        return f"CountingSampler({inner})"


class ClientSampler(Sampler):
    """The sampler of a client library's tracer: its spans are calls, whatever kind they have."""

    def __init__(self, sampler: Sampler) -> None:
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
        """Return the decision for a span of the kind CLIENT."""
        return self._sampler.should_sample(
            parent_context, trace_id, name, SpanKind.CLIENT, attributes, links, trace_state
        )

    def get_description(self) -> str:
        """Return the other sampler's description."""
        return self._sampler.get_description()


class HeadSampler(RandomIdGenerator, Sampler):
    """Asks the sampler about a root before its span is made, and gives the tracer that answer later.

    Most requests are not exported. Making a span that doesn't record would cost more than everything
    else that OpenTelemetry needs of them. The sampler is still asked at most once per request.

    Args:
        sampler: the sampler to ask.
    """

    def __init__(self, sampler: CountingSampler) -> None:
        self._sampler = sampler
        self._bound: int | None = None
        #: The ids of the root that is about to be made in this thread, greenlet or task, and the answer.
        self._answer: ContextVar[tuple[int, int, SamplingResult]] = ContextVar(
            "otel_canonical_answer"
        )

    def begin(self) -> None:
        """Read the sampler's bound; call it again when the sampler changes."""
        self._bound = self._sampler.bound()

    def decides(self, trace_id: int) -> bool | None:
        """Return whether a root without a caller is certainly taken, or dropped; on None, call `ask`."""
        if self._bound is None:
            return None
        return trace_id & TraceIdRatioBased.TRACE_ID_LIMIT < self._bound

    def ask(
        self, context: Context, trace_id: int, name: str, attributes: Attributes
    ) -> SamplingResult:
        """Return the sampler's decision about a root."""
        return self._sampler.should_sample(context, trace_id, name, SpanKind.SERVER, attributes)

    def start(
        self, trace_id: int, span_id: int, result: SamplingResult, start: Callable[[], Span]
    ) -> Span:
        """Have the tracer start a span with these ids, as the sampler has decided."""
        self._answer.set((trace_id, span_id, result))
        return start()

    def should_sample(self, *args: object, **kwargs: object) -> SamplingResult:
        """Return the decision that was given to `start`."""
        return self._answer.get()[2]

    def generate_trace_id(self) -> int:
        """Return the trace id that was given to `start`."""
        return self._answer.get()[0]

    def generate_span_id(self) -> int:
        """Return the span id that was given to `start`."""
        return self._answer.get()[1]

    def get_description(self) -> str:
        """Return the sampler's description."""
        return self._sampler.get_description()
