"""A snapshot of this package's code at the arbiter's start, for workers forked after an upgrade on disk.

A worker imports most modules after the fork. After `pip install --upgrade` and SIGHUP that would mix the
new version's modules with the old version's that the arbiter had imported. So the arbiter reads the code
of all modules when it starts, without executing any, and workers import from that. A new arbiter, after
SIGUSR2 or a restart, has the new version.
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import os
import pkgutil
import sys
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec, SourceFileLoader
from types import CodeType, ModuleType


class _CodeSnapshot(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds and executes the modules whose code was read."""

    def __init__(self) -> None:
        self._codes: dict[str, tuple[CodeType, str]] = {}

    def read(self, name: str) -> None:
        """Read the code of a module that comes from a file."""
        spec = importlib.util.find_spec(name)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            code = spec.loader.get_code(name)
            if code is not None:
                self._codes[name] = (code, spec.loader.path)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec of a module whose code was read, None for any other."""
        if fullname not in self._codes:
            return None
        where = self._codes[fullname][1]
        is_package = os.path.basename(where) == "__init__.py"
        return importlib.util.spec_from_file_location(
            fullname,
            where,
            loader=self,
            submodule_search_locations=[os.path.dirname(where)] if is_package else None,
        )

    def exec_module(self, module: ModuleType) -> None:
        """Execute the code that was read."""
        exec(self._codes[module.__name__][0], module.__dict__)


def keep() -> None:
    """Read the code of all modules of this package that are not imported yet. Twice is once."""
    if any(isinstance(finder, _CodeSnapshot) for finder in sys.meta_path):
        return
    kept = _CodeSnapshot()
    for name in _modules(os.path.dirname(os.path.dirname(__file__)), "otel_canonical."):
        if name not in sys.modules:
            kept.read(name)
    sys.meta_path.insert(0, kept)


def _modules(directory: str, prefix: str) -> Iterator[str]:
    for module in pkgutil.iter_modules([directory], prefix):
        yield module.name
        if module.ispkg:
            yield from _modules(
                os.path.join(directory, module.name.rpartition(".")[2]), module.name + "."
            )
