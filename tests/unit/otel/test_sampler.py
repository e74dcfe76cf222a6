"""HeadSampler and CountingSampler: whether a root is dropped, by the sampler's bound and by the sampler."""

from __future__ import annotations

import random
from typing import Any

import pytest
from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    DEFAULT_OFF,
    DEFAULT_ON,
    Decision,
    ParentBased,
    ParentBasedTraceIdRatio,
    Sampler,
    SamplingResult,
    StaticSampler,
    TraceIdRatioBased,
)
from opentelemetry.trace import SpanKind

from otel_canonical.otel.sampler import CountingSampler, HeadSampler

#: Where an id is dropped or not by a hair, and anywhere.
_random = random.Random(7)
IDS = [
    *(_random.getrandbits(128) for _ in range(500)),
    *(_random.getrandbits(64) << 64 | low for low in (0, 1, 2**64 - 1)),
    *(
        TraceIdRatioBased.get_bound_for_rate(rate) + beside
        for rate in (0.01, 0.3)
        for beside in (-1, 0, 1)
    ),
]


class Moody(TraceIdRatioBased):
    """A sampler of the user's, that decides as it likes."""

    def should_sample(self, *_: Any, **__: Any) -> SamplingResult:
        return SamplingResult(Decision.RECORD_AND_SAMPLE)


def asked(sampler: Sampler | None, *, records_all: bool = False) -> tuple[HeadSampler, Sampler]:
    """Return what is asked before a root is made, and the sampler that it speaks for."""
    counting = CountingSampler(sampler, records_all=records_all)
    first = HeadSampler(counting)
    first.begin()
    return first, counting


@pytest.mark.parametrize(
    "sampler",
    [
        *(TraceIdRatioBased(rate) for rate in (0.0, 0.01, 0.3, 1.0)),
        *(ParentBasedTraceIdRatio(rate) for rate in (0.0, 0.01, 0.3, 1.0)),
        *(ALWAYS_ON, ALWAYS_OFF, DEFAULT_ON, DEFAULT_OFF, ParentBased(TraceIdRatioBased(0.3))),
    ],
)
def test_bound_says_what_the_sampler_would(sampler: Sampler) -> None:
    """For a root without a caller's trace context."""
    first, sampler = asked(sampler)
    for trace_id in IDS:
        result = sampler.should_sample(Context(), trace_id, "GET", SpanKind.SERVER, {})
        assert first.decides(trace_id) == (result.decision is not Decision.DROP), hex(trace_id)


@pytest.mark.parametrize(
    ("sampler", "records_all"),
    [
        (StaticSampler(Decision.RECORD_ONLY), False),
        (None, False),
        (Moody(0.0), False),
        (ParentBased(Moody(0.0)), False),
        # The operator's rule may want it in the end.
        (TraceIdRatioBased(0.0), True),
    ],
)
def test_sampler_is_asked_when_it_has_no_bound(sampler: Sampler | None, records_all: bool) -> None:
    """Nothing is taken for granted of a sampler that isn't known."""
    first, _ = asked(sampler, records_all=records_all)
    assert [first.decides(trace_id) for trace_id in IDS] == [None] * len(IDS)
