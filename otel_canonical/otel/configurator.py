"""Configures the SDK from `OTEL_*` variables, with our distro's name on everything it exports.

Used by workers and by the reporter. The arbiter imports this module, so nothing of the SDK is imported
before it is needed; see `distro`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping

from otel_canonical import otel_config
from otel_canonical._version import __version__
from otel_canonical.internal_errors import warn

INSTEAD_OF_FILE = "the other OTEL_* variables are used"

#: https://opentelemetry.io/docs/specs/semconv/resource/#telemetry-distro
DISTRO = {"telemetry.distro.name": "otel-canonical", "telemetry.distro.version": __version__}


def configure_sdk(resource_attributes: Mapping[str, object], **kwargs: object) -> None:
    """Configure the SDK; never raises.

    What can't be used costs itself: a configuration file gives way to the variables, and if these can't be
    used, nothing is exported.

    Args:
        resource_attributes: describe this process; `OTEL_RESOURCE_ATTRIBUTES` takes precedence.
        kwargs: further arguments of the SDK's configurator.
    """
    if otel_config.is_declared():
        loader = logging.getLogger("opentelemetry.configuration")
        level = loader.level
        # It would log the traceback of what is said in a sentence here.
        loader.setLevel(logging.CRITICAL + 1)
        try:
            # The SDK's configurator would warn about every argument.
            configure_upstream()
        except Exception as error:  # noqa: BLE001  # said; a file may hold anything
            path = os.environ.pop("OTEL_CONFIG_FILE")
            warn(f"OTEL_CONFIG_FILE={path!r} can't be used ({_text_of(error)}); {INSTEAD_OF_FILE}")
            otel_config.set_defaults()
        else:
            return
        finally:
            loader.setLevel(level)
    try:
        configure_upstream(resource_attributes={**DISTRO, **resource_attributes}, **kwargs)
    except Exception as error:  # noqa: BLE001  # said; a component may raise anything
        warn(f"OpenTelemetry's SDK can't be set up ({_text_of(error)}); nothing is exported")
        otel_config.export_nothing()


def configure_upstream(**kwargs: object) -> None:
    """Call the SDK's own configurator."""
    from otel_canonical.otel import exporters, sdk_internals

    configure = sdk_internals.sdk_configure()
    if configure is not None:
        exporters.make_by_parts()
        configure(**kwargs)


def _text_of(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
