"""Counts the top-level renders of Django's templates; includes belong to the render around them.

Lives where the app is loaded. In an exported request each counted render has a span, too.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from otel_canonical.otel import internal_spans
from otel_canonical.patching import patch
from otel_canonical.per_thread import PerThread
from otel_canonical.request.scope import open_scope

_inside_render: PerThread[bool] = PerThread()


def wrap_template(module: Any) -> None:
    """Patch `render` of templates and, in Django 6, of their partials (`page.html#row`)."""
    patch(module.Template, "render", _counting)
    partial = getattr(module, "PartialTemplate", None)
    if partial is not None:
        patch(partial, "render", _counting)


def _counting(render: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def render_and_count(self: Any, context: Any) -> Any:
        scope = open_scope()
        if scope is None or _inside_render.now():
            return render(self, context)
        outer = _inside_render.enter(True)
        accounted_ns = scope.accounted_ns
        started_ns = time.perf_counter_ns()
        try:
            if not internal_spans.are_made_in(scope, internal_spans.TEMPLATES):
                return render(self, context)
            name = self.name
            with internal_spans.span(
                internal_spans.TEMPLATES,
                f"template.render {name}" if name else "template.render",
                {"canonical.template.name": str(name)} if name else {},
            ):
                return render(self, context)
        finally:
            # Two statements: while the clock is read, another thread of the request may add its time.
            elapsed_ns = time.perf_counter_ns() - started_ns
            scope.template_ns += elapsed_ns
            own_ns = scope.leave(accounted_ns, elapsed_ns)
            scope.template_own_ns += own_ns
            scope.template_renders += 1
            _inside_render.leave(outer)

    return render_and_count
