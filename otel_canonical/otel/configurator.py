"""Configures the SDK from `OTEL_*` variables, with our distro's name on everything it exports.

Used by workers and by the reporter. The arbiter imports this module, so nothing of the SDK is imported
before it is needed; see `distro`.
"""

from __future__ import annotations

from collections.abc import Mapping

from otel_canonical import otel_config
from otel_canonical._version import __version__

#: https://opentelemetry.io/docs/specs/semconv/resource/#telemetry-distro
DISTRO = {"telemetry.distro.name": "otel-canonical", "telemetry.distro.version": __version__}


def configure_sdk(resource_attributes: Mapping[str, object], **kwargs: object) -> None:
    """Configure the SDK.

    Args:
        resource_attributes: describe this process; `OTEL_RESOURCE_ATTRIBUTES` takes precedence.
        kwargs: further arguments of the SDK's configurator.
    """
    kwargs["resource_attributes"] = {**DISTRO, **resource_attributes}
    # With OTEL_CONFIG_FILE the SDK's configurator warns about every argument.
    configure_upstream(**({} if otel_config.is_declared() else kwargs))


def configure_upstream(**kwargs: object) -> None:
    """Call the SDK's own configurator."""
    from otel_canonical.otel import sdk_internals

    configure = sdk_internals.sdk_configure()
    if configure is not None:
        configure(**kwargs)
