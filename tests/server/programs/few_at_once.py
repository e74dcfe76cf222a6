"""A worker of Uvicorn's that serves one request at a time and turns others away."""

from __future__ import annotations

from typing import ClassVar

from uvicorn_worker import UvicornWorker


class FewAtOnce(UvicornWorker):
    CONFIG_KWARGS: ClassVar = {**UvicornWorker.CONFIG_KWARGS, "limit_concurrency": 3}
