"""Makes each exporter on its own, so that one that can't be made costs nothing else.

Lives in the worker and in the reporter. The SDK makes all exporters in one go: the first exception leaves
every signal after it without a provider.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from otel_canonical.internal_errors import warn
from otel_canonical.otel import exporter_internals
from otel_canonical.otel_environment.exports import SIGNALS

#: Exporter classes by name, for each of `SIGNALS`.
Classes = tuple[dict[str, type], dict[str, type], dict[str, type]]
ImportExporters = Callable[[Sequence[str], Sequence[str], Sequence[str]], Classes]


def make_by_parts() -> None:
    """Patch the SDK's configuration so that it gets only exporters that could be made. Idempotent."""
    exporter_internals.patch_import_of_exporters(_importing_by_parts)


def _importing_by_parts(import_exporters: ImportExporters) -> ImportExporters:
    def import_and_make(*names: Sequence[str]) -> Classes:
        found: Classes = ({}, {}, {})
        for place, signal in enumerate(SIGNALS):
            for name in names[place]:
                wanted: list[Sequence[str]] = [(), (), ()]
                wanted[place] = (name,)
                try:
                    kind = import_exporters(*wanted)[place][name]
                    found[place][name] = _handing_out(kind, kind())
                except Exception as error:  # noqa: BLE001  # an exporter may raise anything
                    warn(
                        f"the exporter {name} can't be made ({type(error).__name__}: {error}); "
                        f"{signal} are not exported by it"
                    )
            if names[place]:
                # For whatever asks later what is exported.
                os.environ[f"OTEL_{signal.upper()}_EXPORTER"] = ",".join(found[place]) or "none"
        return found

    return import_and_make


def _handing_out(kind: type, exporter: Any) -> type:
    """Return a class that "makes" an exporter that exists. The SDK checks its base, and calls it once."""
    exporter_internals.refuse_redirects(exporter)
    return type(kind.__name__, (kind,), {"__new__": lambda cls, *args, **kwargs: exporter})
