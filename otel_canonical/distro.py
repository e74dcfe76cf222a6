"""The entry points that OpenTelemetry calls: distro, configurator, instrumentor.

`opentelemetry-instrument` calls them when the interpreter starts, in the process that becomes the
arbiter. There they only arrange that each worker calls them again after the fork. An SDK that is set up
before the fork has its exporter threads and locks copied in the middle of their work; an SDK that is
merely imported before keeps references to what gevent will patch. In a process that never becomes a
Gunicorn nothing happens.
"""

from __future__ import annotations

from collections.abc import Collection
from importlib.metadata import EntryPoint
from typing import Any

from opentelemetry.instrumentation.distro import BaseDistro
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor

from otel_canonical import assembly
from otel_canonical.otel import configurator


class CanonicalDistro(BaseDistro):
    """The distro `otel_canonical`."""

    def _configure(self, **kwargs: Any) -> None:
        assembly.install(with_sdk=True)

    def load_instrumentor(self, entry_point: EntryPoint, **kwargs: Any) -> None:
        """Load an instrumentation if this is a worker. Django's is loaded later, by `django.setup`."""
        if not assembly.is_worker() or entry_point.name == "django":
            return
        if entry_point.name == "logging" and assembly.exports_app_logs():
            # Its handler would export every record a second time. What it adds to log formats is kept.
            kwargs["enable_log_auto_instrumentation"] = False
        super().load_instrumentor(entry_point, **kwargs)


class CanonicalConfigurator:
    """The configurator `otel_canonical`: sets the SDK up as `OTEL_*` says, in workers only.

    Under another distro it does what upstream's does: of several configurators OpenTelemetry calls the
    first that it finds, which may be this one.
    """

    def configure(self, **kwargs: Any) -> None:
        """Set the SDK up if this is the process for it."""
        if not assembly.sets_sdk_up():
            configurator.configure_upstream(**kwargs)
        elif assembly.is_worker():
            given = kwargs.pop("resource_attributes", None) or {}
            configurator.configure_sdk({**assembly.worker_identity(), **given}, **kwargs)


class CanonicalInstrumentor(BaseInstrumentor):
    """The instrumentor `otel_canonical`, for processes that run under another distro.

    The lines are the same; the SDK is the one that the other distro has set up.
    """

    def instrumentation_dependencies(self) -> Collection[str]:
        """Return no requirements: they are the package's own."""
        return ()

    def _instrument(self, **kwargs: Any) -> None:
        assembly.install(with_sdk=False)

    def _uninstrument(self, **kwargs: Any) -> None:
        """Do nothing: what is wrapped stays, and writes no line outside Gunicorn."""
