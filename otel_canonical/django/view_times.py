"""Marks where a view begins and ends, and times streamed bodies: two places of a request's time.

Lives where the app is loaded. The view has no frame of ours around it: its beginning is the last thing that
Django's handler does before it (`make_view_atomic`), its end is the first thing behind it
(`check_response`, or `process_exception_by_middleware` if it raises), for sync and async views alike.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from otel_canonical.patching import patch
from otel_canonical.request.scope import RequestScope, current_scope, open_scope

Handle = Callable[..., Any]


def wrap_handler(handler: type) -> None:
    """Patch `django.core.handlers.base.BaseHandler` around the call of a view."""
    patch(handler, "make_view_atomic", _marking_beginning)
    patch(handler, "check_response", _marking_end)
    patch(handler, "process_exception_by_middleware", _marking_failure)


def wrap_responses(response: Any, template_response: Any) -> None:
    """Patch the responses that do their work behind the view.

    Args:
        response: the module `django.http.response`.
        template_response: the module `django.template.response`.
    """
    patch(response.StreamingHttpResponse, "__iter__", _timing_parts)
    patch(response.StreamingHttpResponse, "__aiter__", _timing_async_parts)
    patch(template_response.SimpleTemplateResponse, "render", _timing_late_render)


def _marking_beginning(make_view_atomic: Handle) -> Handle:
    def make_view_atomic_and_mark(self: Any, view: Any) -> Any:
        made = make_view_atomic(self, view)
        scope = current_scope.get()
        # Another view may be running: one that calls Django's handler itself.
        if scope is not None and not scope.view_mark_ns:
            scope.view_callback = view
            scope.view_mark_ns = time.perf_counter_ns() - scope.accounted_ns
        return made

    return make_view_atomic_and_mark


def _marking_end(check_response: Handle) -> Handle:
    def mark_and_check_response(self: Any, response: Any, callback: Any, name: Any = None) -> Any:
        scope = current_scope.get()
        if scope is not None and scope.view_callback is callback and scope.view_mark_ns:
            # As `Places.leave_view` does, without its calls.
            accounted_ns = time.perf_counter_ns() - scope.view_mark_ns
            scope.view_mark_ns = 0
            own_ns = accounted_ns - scope.accounted_ns
            scope.accounted_ns = accounted_ns
            if own_ns >= 0:
                scope.view_ns += own_ns
            else:
                scope.overlap_ns -= own_ns
        return check_response(self, response, callback, name)

    return mark_and_check_response


def _marking_failure(process_exception: Handle) -> Handle:
    def mark_and_process_exception(self: Any, exception: Any, request: Any) -> Any:
        scope = current_scope.get()
        if scope is not None and scope.django_request is request:
            scope.leave_view(time.perf_counter_ns())
        return process_exception(self, exception, request)

    return mark_and_process_exception


def _timing_late_render(render: Handle) -> Handle:
    def render_timed(self: Any, *args: Any, **kwargs: Any) -> Any:
        scope = open_scope()
        if scope is None:
            return render(self, *args, **kwargs)
        entered_ns = scope.accounted_ns
        started_ns = time.perf_counter_ns()
        try:
            return render(self, *args, **kwargs)
        finally:
            own_ns = scope.leave(entered_ns, time.perf_counter_ns() - started_ns)
            scope.view_ns += own_ns

    return render_timed


def noting_spread_work(call: Handle) -> Handle:
    """Note in `AsyncToSync.__call__` that a request runs in other threads, too, which have clocks of their own."""

    def note_and_call(self: Any, *args: Any, **kwargs: Any) -> Any:
        scope = current_scope.get()
        if scope is not None:
            scope.waited = None
        return call(self, *args, **kwargs)

    return note_and_call


def _is_served(response: Any) -> RequestScope | None:
    """Return the request whose answer this is; a view may iterate other responses."""
    scope = open_scope()
    return scope if scope is not None and scope.django_response is response else None


def _timing_parts(iterate: Callable[[Any], Iterator[Any]]) -> Callable[[Any], Iterator[Any]]:
    def iterate_timed(self: Any) -> Iterator[Any]:
        scope = _is_served(self)
        parts = iterate(self)
        return parts if scope is None else _timed(parts, scope)

    return iterate_timed


def _timed(parts: Iterator[Any], scope: RequestScope) -> Iterator[Any]:
    while True:
        entered_ns = scope.accounted_ns
        started_ns = time.perf_counter_ns()
        try:
            part = next(parts)
        except StopIteration:
            return
        finally:
            own_ns = scope.leave(entered_ns, time.perf_counter_ns() - started_ns)
            scope.body_ns += own_ns
        yield part


def _timing_async_parts(
    iterate: Callable[[Any], AsyncIterator[Any]],
) -> Callable[[Any], AsyncIterator[Any]]:
    def iterate_timed(self: Any) -> AsyncIterator[Any]:
        scope = _is_served(self)
        parts = iterate(self)
        return parts if scope is None else _timed_async(parts, scope)

    return iterate_timed


async def _timed_async(parts: AsyncIterator[Any], scope: RequestScope) -> AsyncIterator[Any]:
    try:
        while True:
            entered_ns = scope.accounted_ns
            started_ns = time.perf_counter_ns()
            try:
                part = await anext(parts)
            except StopAsyncIteration:
                return
            finally:
                own_ns = scope.leave(entered_ns, time.perf_counter_ns() - started_ns)
                scope.body_ns += own_ns
            yield part
    finally:
        close = getattr(parts, "aclose", None)
        if close is not None:
            await close()
