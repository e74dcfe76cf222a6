"""The caller's trace is recognised, whichever propagator carries it and however it spells its headers."""

from __future__ import annotations

import pytest
from opentelemetry import propagate, trace
from opentelemetry.propagators.aws import AwsXRayPropagator
from opentelemetry.propagators.b3 import B3MultiFormat, B3SingleFormat
from opentelemetry.propagators.jaeger import JaegerPropagator
from opentelemetry.propagators.ot_trace import OTTracePropagator
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from otel_canonical.otel.root_factory import RootFactory
from otel_canonical.request.canonical_log import CanonicalLog
from otel_canonical.request.progress import Outputs
from otel_canonical.settings import Settings

TRACE_ID = 0x1234567890ABCDEF1234567890ABCDEF
SPAN_ID = 0x1234567890ABCDEF
TEXTS = f"{TRACE_ID:032x}", f"{SPAN_ID:016x}"

PROPAGATORS = [
    TraceContextTextMapPropagator(),
    B3MultiFormat(),
    B3SingleFormat(),
    JaegerPropagator(),
    OTTracePropagator(),
    AwsXRayPropagator(),
]


def is_recognised(propagator: TextMapPropagator, sent: dict[str, str]) -> bool:
    """Open a request with the headers that a server would pass on; return whether it has its caller."""
    before = propagate.get_global_textmap()
    propagate.set_global_textmap(propagator)
    try:
        roots = RootFactory(None, str)
        log = CanonicalLog(
            Settings(), roots, Outputs(lambda event: b"", lambda event, line, slot: None)
        )
    finally:
        propagate.set_global_textmap(before)
    headers = {name.upper(): value for name, value in sent.items()}
    scope = log.open(
        "GET", "/", {name: value for name, value in headers.items() if name in log.header_names}
    )
    assert scope is not None
    found = scope.root.trace_id[-16:], scope.root.caller_span_id
    log.close(scope)
    return found == (TEXTS[0][-16:], TEXTS[1])


@pytest.mark.parametrize("propagator", PROPAGATORS, ids=lambda one: type(one).__name__)
def test_callers_trace_is_recognised(propagator: TextMapPropagator) -> None:
    """What a propagator has written into a request it also finds there."""
    ids = SpanContext(TRACE_ID, SPAN_ID, is_remote=False, trace_flags=TraceFlags(1))
    sent: dict[str, str] = {}
    propagator.inject(sent, trace.set_span_in_context(NonRecordingSpan(ids)))
    assert sent
    assert is_recognised(propagator, sent)


def test_b3_is_recognised_in_either_form() -> None:
    """Its `fields` name those headers only that it writes."""
    trace_id, span_id = TEXTS
    assert is_recognised(B3MultiFormat(), {"b3": f"{trace_id}-{span_id}-1"})
    several = {"X-B3-TraceId": trace_id, "X-B3-SpanId": span_id, "X-B3-Sampled": "1"}
    assert is_recognised(B3SingleFormat(), several)
