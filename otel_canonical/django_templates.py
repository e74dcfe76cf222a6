"""Counts the renders of Django's templates: the top-level ones, with all that they include.

Lives where the app is loaded. In an exported request such a render has a span, too.
"""

from __future__ import annotations

import functools
import time
from contextvars import ContextVar
from typing import Any

from otel_canonical import inner_spans
from otel_canonical.inside import Inside, now_inside
from otel_canonical.request_scope import open_scope

_MARK = "__otel_canonical__"

_inside_render: ContextVar[Inside | None] = ContextVar("otel_canonical_inside_render", default=None)


def wrap_template(module: Any) -> None:
    """Wrap `django.template.base.Template.render`."""
    render = module.Template.render
    if hasattr(render, _MARK):
        return

    @functools.wraps(render)
    def render_and_count(self: Any, context: Any) -> Any:
        scope = open_scope()
        if scope is None or now_inside(_inside_render) is not None:
            return render(self, context)
        inside = Inside()
        token = inside.enter(_inside_render)
        started_ns = time.perf_counter_ns()
        try:
            if not inner_spans.are_made_in(scope, inner_spans.TEMPLATES):
                return render(self, context)
            name = self.name
            with inner_spans.span(
                inner_spans.TEMPLATES,
                f"template.render {name}" if name else "template.render",
                {"canonical.template.name": str(name)} if name else {},
            ):
                return render(self, context)
        finally:
            # Not in one: while the clock is asked, another thread of the request may add its time.
            elapsed_ns = time.perf_counter_ns() - started_ns
            scope.template_ns += elapsed_ns
            scope.template_renders += 1
            inside.leave(token)

    setattr(render_and_count, _MARK, True)
    module.Template.render = render_and_count
