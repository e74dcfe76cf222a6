"""RootFactory: the sampler is asked once for each root, and obeyed."""

from __future__ import annotations

import pytest
from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import TraceFlags, TraceState

from otel_canonical.event.redaction import RedactionPolicy
from otel_canonical.otel import sdk
from otel_canonical.otel.root_factory import RootFactory
from otel_canonical.otel.unexported_root import UnexportedRoot
from otel_canonical.request.scope import RequestScope
from otel_canonical.settings import Settings


class _Asked(Sampler):
    """Takes what it is told to, and remembers what it was asked."""

    def __init__(self) -> None:
        self.decision = Decision.DROP
        self.asked: list[int] = []

    def should_sample(
        self, parent_context: Context | None, trace_id: int, *args: object, **kwargs: object
    ) -> SamplingResult:
        self.asked.append(trace_id)
        return SamplingResult(self.decision, trace_state=TraceState([("ot", "th:c")]))

    def get_description(self) -> str:
        return "asked"


@pytest.mark.parametrize("called", [False, True])
def test_sampler_is_asked_once_and_obeyed(called: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """For a root that is not exported no span is made; ids, flags and trace state are as of one."""
    sampler = _Asked()
    provider = TracerProvider(sampler, shutdown_on_exit=False)
    monkeypatch.setattr("opentelemetry.trace.get_tracer_provider", lambda: provider)
    roots = sdk.connect(Settings(), exports=True, redaction=RedactionPolicy())
    headers = {"TRACEPARENT": f"00-{7:032x}-{8:016x}-03"} if called else {}
    for decision in (Decision.DROP, Decision.RECORD_AND_SAMPLE):
        sampler.decision = decision
        scope = RequestScope("GET", "/ok/", headers)
        root = roots.open(scope, "1" * 16 + "2" * 32, is_called=called)
        root.detach()
        context = root.span.get_span_context()
        assert context.trace_id == (7 if called else int("2" * 32, 16)) == int(root.trace_id, 16)
        assert context.trace_flags == TraceFlags.RANDOM_TRACE_ID | (decision is not Decision.DROP)
        assert context.trace_state == {"ot": "th:c"}
        assert isinstance(root, UnexportedRoot) == (decision is Decision.DROP)
        assert root.is_exported == (decision is not Decision.DROP)
        assert sampler.asked == [context.trace_id]
        sampler.asked.clear()


def test_bad_excluded_urls_exclude_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Under another distro the variable is read as it is: a wrong one is said, and roots are opened."""
    monkeypatch.setenv("OTEL_PYTHON_DJANGO_EXCLUDED_URLS", "api/(v1")
    roots = RootFactory(None, str)
    scope = RequestScope("GET", "/api/(v1", {})
    root = roots.open(scope, "1" * 16 + "2" * 32)
    root.detach()
    assert not root.is_excluded
    [said] = [record.getMessage() for record in caplog.records]
    assert "OTEL_PYTHON_DJANGO_EXCLUDED_URLS" in said
    assert "unterminated subpattern" in said
