"""Patches Django: handler and caches when they are imported, the rest when its settings are final.

Lives where the app is loaded: in the worker or, with `--preload`, in the arbiter, where there is no SDK
and none is needed. Nothing here imports Django before the app does.
"""

from __future__ import annotations

import importlib
from typing import Any

from otel_canonical import otel_config
from otel_canonical.patching import patch, when_imported
from otel_canonical.request.scope import readers

_is_watching: list[bool] = []


def watch(*, with_spans: bool) -> None:
    """Wrap Django's handler, caches and connections as soon as somebody imports them. Twice is once.

    Args:
        with_spans: whether Django's instrumentation is ours to install, if anything is exported.
    """
    if _is_watching:
        return
    _is_watching.append(True)

    def wrap_handler(module: Any) -> None:
        from otel_canonical.django import handler

        # Before all enrichers: they may use what it reads.
        readers.insert(0, handler.read_request)
        handler.wrap_handler(module, lambda: before_middleware(with_spans=with_spans))

    def wrap_caches(module: Any) -> None:
        from otel_canonical.django import cache

        cache.wrap_caches(module)

    def wrap_connect(module: Any) -> None:
        from otel_canonical.django import connections

        connections.wrap_connect(module)

    def wrap_cursors(module: Any) -> None:
        from otel_canonical.django import queries

        queries.wrap_cursors(module)

    def wrap_get_user(module: Any) -> None:
        from otel_canonical.django import users

        users.wrap_get_user(module)

    def wrap_rest_framework(module: Any) -> None:
        from otel_canonical.django import handler

        patch(module.APIView, "handle_exception", handler.noting_answer)

    def wrap_ninja(module: Any) -> None:
        from otel_canonical.django import handler

        patch(module.NinjaAPI, "on_exception", handler.noting_answer)

    def wrap_async(module: Any) -> None:
        from otel_canonical.django import view_times

        patch(module.AsyncToSync, "__call__", view_times.noting_spread_work)

    def wrap_consumer(module: Any) -> None:
        from otel_canonical.django import channels

        patch(module.AsyncConsumer, "__call__", channels.noting_consumer)

    when_imported("django.core.handlers.base", wrap_handler)
    # Before the first connection, which may be opened while the app is loaded.
    when_imported("django.db.backends.base.base", wrap_connect)
    when_imported("django.db.backends.utils", wrap_cursors)
    when_imported("django.contrib.auth", wrap_get_user)
    when_imported("rest_framework.views", wrap_rest_framework)
    when_imported("ninja.main", wrap_ninja)
    when_imported("channels.consumer", wrap_consumer)
    when_imported("asgiref.sync", wrap_async)
    when_imported("django.core.cache", wrap_caches)


def before_middleware(*, with_spans: bool) -> None:
    """Wrap the rest of Django; its settings are final now. Twice is once."""
    from otel_canonical.django import connections, handler, query_plans, templates, view_times

    view_times.wrap_responses(
        importlib.import_module("django.http.response"),
        importlib.import_module("django.template.response"),
    )
    handler.wrap_exception_handling(importlib.import_module("django.core.handlers.exception"))
    templates.wrap_template(importlib.import_module("django.template.base"))
    connections.watch_open_connections()
    query_plans.offer()
    if with_spans and (otel_config.exports("metrics") or otel_config.exports("traces")):
        from otel_canonical.django import middleware

        middleware.instrument_if_needed()
