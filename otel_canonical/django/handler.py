"""Facts from Django's request handler: route, view, user, and the exception behind a response.

Lives where the app is loaded: in the worker or, with `--preload`, in the arbiter before the fork.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import Http404
from django.utils.functional import LazyObject, empty

from otel_canonical.django import view_names, view_times
from otel_canonical.event.event import FIRST_SERVER_ERROR
from otel_canonical.internal_errors import guarded, guarded_call, report_caught
from otel_canonical.patching import patch
from otel_canonical.process.identity import own
from otel_canonical.request.scope import RequestScope, current_scope, open_scope
from otel_canonical.stacks import errors

#: Exceptions that are Django's documented way to answer 404 or 403: no failures.
ANSWERS = (Http404, PermissionDenied)

Handle = Callable[[Any, Any], Any]
HandleAsync = Callable[[Any, Any], Awaitable[Any]]

#: Open a scope around a request that no server adapter has opened one for. Empty under Gunicorn;
#: `testing.capture_events` adds one while it captures.
openers: list[Callable[[Any], AbstractContextManager[None]]] = []


def wrap_handler(module: Any, before_load: Callable[[], None]) -> None:
    """Patch `django.core.handlers.base.BaseHandler`.

    Args:
        module: `django.core.handlers.base`.
        before_load: called before the middleware is loaded, by the WSGI and the ASGI handler alike.
            Settings are final then, however they were given.
    """

    def coming_after_us(load_middleware: Callable[..., None]) -> Callable[..., None]:
        def load_middleware_after_us(self: Any, is_async: bool = False) -> None:
            with guarded("instrumenting Django"):
                before_load()
            load_middleware(self, is_async)

        return load_middleware_after_us

    patch(module.BaseHandler, "load_middleware", coming_after_us)
    patch(module.BaseHandler, "get_response", _noting_response)
    patch(module.BaseHandler, "get_response_async", _noting_response_async)
    patch(module.BaseHandler, "resolve_request", _noting_route)
    # Middleware with a `process_exception`: JSON APIs answer so.
    patch(module.BaseHandler, "process_exception_by_middleware", noting_answer)
    view_times.wrap_handler(module.BaseHandler)


def _noting_response(get_response: Handle) -> Handle:
    def get_response_and_note(self: Any, request: Any) -> Any:
        scope = current_scope.get()
        # As `open_scope` does, without its call.
        if scope is None or not scope.is_open or not own[0]:
            if openers:
                with openers[-1](request):
                    return get_response_and_note(self, request)
            return get_response(self, request)
        if scope.django_request is not None:
            return get_response(self, request)
        scope.django_request = request
        # A name that is looked up once, for two calls of every request.
        clock = time.perf_counter_ns
        scope.handler_mark_ns = clock() - scope.accounted_ns
        response = get_response(self, request)
        if scope.view_mark_ns:
            scope.leave_view(clock())
        # As `Places.leave` does, without its call.
        accounted_ns = clock() - scope.handler_mark_ns
        scope.handler_mark_ns = 0
        own_ns = accounted_ns - scope.accounted_ns
        scope.accounted_ns = accounted_ns
        if own_ns >= 0:
            scope.mw_ns = own_ns
        else:
            scope.overlap_ns -= own_ns
        scope.django_response = response
        return response

    return get_response_and_note


def _noting_response_async(get_response_async: HandleAsync) -> HandleAsync:
    async def get_response_async_and_note(self: Any, request: Any) -> Any:
        scope = open_scope()
        if scope is None and openers:
            with openers[-1](request):
                return await get_response_async_and_note(self, request)
        if scope is None or scope.django_request is not None:
            return await get_response_async(self, request)
        scope.django_request = request
        # Django serves a request in its own task; another task listens for the client.
        scope.runner = asyncio.current_task()
        entered_ns = scope.accounted_ns
        started_ns = time.perf_counter_ns()
        scope.handler_mark_ns = started_ns - entered_ns
        response = await get_response_async(self, request)
        now_ns = time.perf_counter_ns()
        if scope.view_mark_ns:
            scope.leave_view(now_ns)
        scope.handler_mark_ns = 0
        scope.mw_ns = scope.leave(entered_ns, now_ns - started_ns)
        scope.django_response = response
        return response

    return get_response_async_and_note


def _noting_route(resolve_request: Handle) -> Handle:
    def resolve_request_and_note(self: Any, request: Any) -> Any:
        match = resolve_request(self, request)
        scope = current_scope.get()
        if scope is not None and scope.is_open and scope.django_request is request:
            try:
                scope.route = match.route or "/"
                scope.url_kwargs = match.kwargs
                scope.url_name = match.view_name
                try:
                    name = view_names.known[match.func]
                except (KeyError, TypeError):
                    scope.view = view_names.name_of(match, request.method)
                else:
                    if type(name) is str:
                        scope.view = name
                    else:
                        scope.view = view_names.chosen(name, match, request.method)
                if scope.observer is not None:
                    scope.observer.progress(scope)
            except Exception as error:  # noqa: BLE001  # guarded, see `report_caught`
                report_caught("noting a route", error)
        return match

    return resolve_request_and_note


def wrap_exception_handling(module: Any) -> None:
    """Patch `django.core.handlers.exception.response_for_exception`, through which all exceptions pass.

    The signal `got_request_exception` is sent for the 500s only.
    """
    patch(module, "response_for_exception", _noting_exception)


def _noting_exception(response_for_exception: Handle) -> Handle:
    def note_and_respond(request: Any, exc: Exception) -> Any:
        try:
            response = response_for_exception(request, exc)
        except Exception as error:
            # The site's own `handler500` has failed: the server answers instead.
            _note_error(error, FIRST_SERVER_ERROR)
            raise
        _note_error(exc, response.status_code)
        return response

    return note_and_respond


def noting_answer(handle: Handle) -> Handle:
    """Note an exception that a framework turns into a response, if the client gets a 5xx.

    For functions that are called with an exception as their first or second argument: `handle(self,
    exc)`, `handle(self, exc, request)`, `handle(self, request, exc)`.
    """

    def answer_and_note(self: Any, *args: Any) -> Any:
        response = handle(self, *args)
        status = getattr(response, "status_code", None)
        if isinstance(status, int) and status >= FIRST_SERVER_ERROR:
            for argument in args:
                if isinstance(argument, Exception):
                    _note_error(argument, status)
        return response

    return answer_and_note


@guarded_call("noting an exception")
def _note_error(error: Exception, status: int) -> None:
    """Note the exception behind a response.

    The one that caused the status that the client gets is the last one that was answered with a 5xx. One
    that was answered with less is noted if there is no other.
    """
    scope = open_scope()
    if scope is None or (status < FIRST_SERVER_ERROR and isinstance(error, ANSWERS)):
        return
    if scope.error is None or (status >= FIRST_SERVER_ERROR and scope.error.raised is not error):
        scope.error = errors.of_error(error)


def read_request(scope: RequestScope) -> None:
    """Read the user's primary key, if the request has looked the user up.

    Looking it up here would be a query. A user that `login` or `logout` has set on the request takes
    precedence: the earlier look-up is out of date then.
    """
    if scope.django_request is None:
        return
    known = scope.django_request.__dict__
    user = known.get("user")
    if issubclass(type(user), LazyObject):
        # Read past the lazy proxy: its own attributes would trigger the look-up.
        user = object.__getattribute__(user, "_wrapped")
    if user is None or user is empty:
        user = known.get("_cached_user") or known.get("_acached_user")
    if user is not None and getattr(user, "is_authenticated", False):
        scope.user_id = str(user.pk)
