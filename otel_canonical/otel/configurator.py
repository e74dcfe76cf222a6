"""Sets the SDK up as `OTEL_*` says, with our name on all that it exports. Used by workers and the reporter."""

from __future__ import annotations

from typing import Any

from otel_canonical import otel_config
from otel_canonical._version import __version__

#: (Semantic conventions, "Telemetry Distro".)
DISTRO = {"telemetry.distro.name": "otel-canonical", "telemetry.distro.version": __version__}


def configure_sdk(resource_attributes: dict[str, Any], **kwargs: Any) -> None:
    """Set the SDK up; `resource_attributes` say who we are, what the user has set goes before."""
    kwargs["resource_attributes"] = {**DISTRO, **resource_attributes}
    # Beside a file that declares all of it, the SDK's configurator warns of every argument.
    upstream().configure(**({} if otel_config.is_declared() else kwargs))


def upstream() -> Any:
    """Return the SDK's own configurator."""
    # Imported late: see `distro`.
    from opentelemetry.sdk._configuration import _OTelSDKConfigurator

    return _OTelSDKConfigurator()
