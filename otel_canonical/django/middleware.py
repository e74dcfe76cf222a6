"""Gives opentelemetry-instrumentation-django our root span, where that instrumentation is needed.

Lives where the app is loaded, and only if spans or metrics are exported. The root span has everything
that the instrumentation would put on it, at a fraction of the cost. Only the instrumentation writes
former attribute names, captured headers, and trace headers of responses. Where the user asks for one of
these, it gets a tracer (its documented parameter) that returns the span which was opened when Gunicorn
accepted the request, and works on that span.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.conf import settings
from django.core.exceptions import DisallowedHost
from opentelemetry import trace
from opentelemetry.instrumentation.django import DjangoInstrumentor
from opentelemetry.instrumentation.propagators import get_global_response_propagator
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.util.types import Attributes

from otel_canonical import otel_config
from otel_canonical.event.event import FIRST_SERVER_ERROR
from otel_canonical.otel import instrumentation_internals
from otel_canonical.otel.root_span import root_of
from otel_canonical.request.scope import open_scope

_Upstream: Any = instrumentation_internals.django_middleware()

UPSTREAM = f"{_Upstream.__module__}.{_Upstream.__qualname__}"


class RootSpanMiddleware(_Upstream):
    """Upstream's middleware with three corrections.

    It does nothing for a request that isn't recorded: upstream would build the absolute URI and resolve
    the URL a second time, for a span that doesn't record, about 100 µs a request. An exception that
    Django answers with less than a 500 doesn't fail the span: upstream takes an Http404 for an error,
    the HTTP semantic conventions don't. And what it has entered is left however the request ends.
    """

    #: False while metrics of the former conventions are exported: upstream records them here.
    steps_aside = True

    #: Upstream is sync only: Django would run it in a thread for every async request.
    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Any) -> None:
        super().__init__(get_response)
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)
            # Django also checks this method, to decide whether it must be called in a thread.
            self.process_view = self._process_view_async  # type: ignore[method-assign]

    def __call__(self, request: Any) -> Any:
        """Serve the request; upstream takes part only if its span is recorded."""
        if self._is_async:
            return self.__acall__(request)
        try:
            if not self._enter(request):
                return self.get_response(request)
            return self.process_response(request, self.get_response(request))
        except BaseException:
            self._leave(request)
            raise

    async def __acall__(self, request: Any) -> Any:
        """Serve the request in an async handler: enter and leave in the same task."""
        try:
            if not self._enter(request):
                return await self.get_response(request)
            response = await self.get_response(request)
            return self.process_response(request, response)
        except BaseException:
            self._leave(request)
            raise

    def process_view(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        """Call upstream's `process_view`, unless upstream is left out of this request."""
        return (
            super().process_view(request, *args, **kwargs) if self._has_entered(request) else None
        )

    async def _process_view_async(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        return RootSpanMiddleware.process_view(self, request, *args, **kwargs)

    def process_exception(self, request: Any, exception: Exception) -> Any:
        """Call upstream's `process_exception`, unless upstream is left out of this request."""
        return super().process_exception(request, exception) if self._has_entered(request) else None

    def process_response(self, request: Any, response: Any) -> Any:
        """Call upstream's `process_response`, without an exception that was answered with less than a 500."""
        if response.status_code < FIRST_SERVER_ERROR:
            instrumentation_internals.forget_exception(self, request.META)
        return super().process_response(request, response)

    def _leave(self, request: Any) -> None:
        """Leave what upstream has entered for a request that ends in SystemExit or is cancelled.

        Otherwise that happens when the generator of its span is garbage-collected: in the middle of a
        later request, which would then run in this request's context.
        """
        instrumentation_internals.abandon_request(self, request.META)

    def _enter(self, request: Any) -> bool:
        """Let upstream begin with a request; return False if upstream is left out of it."""
        if self.steps_aside and not _is_recorded():
            return False
        try:
            request.get_host()
        except DisallowedHost:
            # Upstream would raise this here, before the site's own middleware runs: the 400 would lack
            # what that adds, and sites that never read the host would answer 400, too.
            return False
        self.process_request(request)
        return True

    def _has_entered(self, request: Any) -> bool:
        return instrumentation_internals.has_begun(self, request.META)


class RootTracer(trace.Tracer):
    """A tracer whose first span of a request is the root span that the request already has."""

    def __init__(self, tracer: trace.Tracer) -> None:
        self._tracer = tracer

    def start_span(self, name: str, *args: Any, **kwargs: Any) -> trace.Span:
        """Return the request's root, renamed; any further span is an ordinary one."""
        scope = open_scope()
        if scope is None:
            # The operator excludes this URL, or the request isn't one of Gunicorn's.
            return trace.INVALID_SPAN
        root = root_of(scope)
        if root.handed_out:
            return self._tracer.start_span(name, *args, **kwargs)
        root.handed_out = True
        span = root.span
        span.update_name(name)
        return span

    @contextmanager
    def start_as_current_span(  # type: ignore[override]
        self, name: str, *args: Any, **kwargs: Any
    ) -> Iterator[trace.Span]:
        """Start an ordinary span and make it current; upstream doesn't use this for requests."""
        with self._tracer.start_as_current_span(name, *args, **kwargs) as span:
            yield span


class RootTracerProvider(trace.TracerProvider):
    """The provider that Django's instrumentation is given."""

    def get_tracer(
        self,
        instrumenting_module_name: str,
        instrumenting_library_version: str | None = None,
        schema_url: str | None = None,
        attributes: Attributes = None,
    ) -> trace.Tracer:
        """Return a `RootTracer` around the tracer of the global provider."""
        return RootTracer(
            trace.get_tracer(
                instrumenting_module_name,
                instrumenting_library_version,
                schema_url=schema_url,
                attributes=attributes,
            )
        )


def instrument_if_needed() -> None:
    """Instrument Django if the user asks for something that only its instrumentation does.

    Call this when Django's settings are final, before the middleware is loaded.
    """
    if otel_config.is_instrumentation_disabled("django"):
        return
    if not (otel_config.needs_django_instrumentation() or get_global_response_propagator()):
        return
    instrumentor = DjangoInstrumentor()
    if instrumentor.is_instrumented_by_opentelemetry:
        return
    records_metrics = otel_config.exports("metrics") and not otel_config.records_http_metrics()
    providers: dict[str, Any] = {"tracer_provider": RootTracerProvider()}
    if not records_metrics:
        providers["meter_provider"] = NoOpMeterProvider()
    instrumentor.instrument(skip_dep_check=True, **providers)
    RootSpanMiddleware.steps_aside = not records_metrics
    ours = f"{RootSpanMiddleware.__module__}.{RootSpanMiddleware.__qualname__}"
    settings.MIDDLEWARE = [ours if name == UPSTREAM else name for name in settings.MIDDLEWARE]


def _is_recorded() -> bool:
    scope = open_scope()
    return scope is not None and scope.root.is_recorded
