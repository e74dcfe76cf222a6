"""The entry points that OpenTelemetry calls: distro, configurator, instrumentor.

`opentelemetry-instrument` calls them when the interpreter starts, in the process that becomes the
arbiter. There they only arrange that each worker calls them again after the fork. An SDK that is set up
before the fork has its exporter threads and locks copied in the middle of their work; an SDK that is
merely imported before keeps references to what gevent will patch. In a process that is no Gunicorn the
distro and the configurator run that would have been chosen without us.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from opentelemetry.instrumentation.dependencies import DependencyConflictError
from opentelemetry.instrumentation.distro import BaseDistro, DefaultDistro
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor

from otel_canonical import assembly, otel_config
from otel_canonical.internal_errors import warn
from otel_canonical.otel import configurator
from otel_canonical.otel_environment.program import may_become_gunicorn

DISTROS, CONFIGURATORS = "opentelemetry_distro", "opentelemetry_configurator"


@dataclass(slots=True)
class _Process:
    """Which distro this process has."""

    #: Outside Gunicorn: the distro that would have been loaded without us; None stands for none.
    stand_in: BaseDistro | None = None


_process = _Process()


class CanonicalDistro(BaseDistro):
    """The distro `otel_canonical`."""

    def _configure(self, **kwargs: Any) -> None:
        if assembly.is_worker() or may_become_gunicorn(sys.orig_argv):
            assembly.install(with_sdk=True)
            return
        assembly.install(with_sdk=False)
        # Without an exporter that the user has named it would try to export to this host.
        if otel_config.exports_anything() and _others(CONFIGURATORS):
            other = next(iter(_others(DISTROS)), None)
            _process.stand_in = other.load()() if other is not None else DefaultDistro()
            _process.stand_in.configure(**kwargs)

    def load_instrumentor(self, entry_point: EntryPoint, **kwargs: Any) -> None:
        """Load an instrumentation if this is a worker. Django's is loaded later, by `django.setup`.

        One that fails costs itself.
        """
        if _process.stand_in is not None:
            _process.stand_in.load_instrumentor(entry_point, **kwargs)
            return
        if not assembly.is_worker() or entry_point.name == "django":
            return
        if entry_point.name == "logging" and (
            assembly.exports_app_logs() or not otel_config.is_log_handler_wanted()
        ):
            # Its handler would export every record a second time or, where nothing is exported, keep
            # the app's warnings from stderr. What it adds to log formats is kept.
            kwargs["enable_log_auto_instrumentation"] = False
        try:
            super().load_instrumentor(entry_point, **kwargs)
        except (DependencyConflictError, ModuleNotFoundError):
            raise  # its library isn't installed, which is usual: upstream passes over it
        except Exception as error:  # noqa: BLE001  # said; an instrumentation may raise anything
            warn(
                f"the instrumentation {entry_point.name!r} can't be loaded ({type(error).__name__}: "
                f"{error}); what it would trace is neither traced nor counted"
            )


class CanonicalConfigurator:
    """The configurator `otel_canonical`: sets the SDK up as `OTEL_*` says, in workers only.

    Under another distro it does what upstream's does: of several configurators OpenTelemetry calls the
    first that it finds, which may be this one.
    """

    def configure(self, **kwargs: Any) -> None:
        """Set the SDK up if this is the process for it."""
        if _process.stand_in is not None:
            _others(CONFIGURATORS)[0].load()().configure(**kwargs)
        elif not assembly.sets_sdk_up():
            if os.environ.get("OTEL_PYTHON_DISTRO") != "otel_canonical":
                configurator.configure_upstream(**kwargs)
        elif assembly.is_worker():
            given = kwargs.pop("resource_attributes", None) or {}
            configurator.configure_sdk({**assembly.worker_identity(), **given}, **kwargs)


def _others(group: str) -> list[EntryPoint]:
    """Return what other packages offer in a group of entry points."""
    return [point for point in entry_points(group=group) if point.name != "otel_canonical"]


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
