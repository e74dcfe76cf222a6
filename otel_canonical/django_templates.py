"""Counts the renders of Django's templates: the top-level ones, with all that they include.

Lives where the app is loaded.
"""

from __future__ import annotations

import functools
import time
from typing import Any

from otel_canonical.request_scope import open_scope

_MARK = "__otel_canonical__"


def wrap_template(module: Any) -> None:
    """Wrap `django.template.base.Template.render`."""
    render = module.Template.render
    if hasattr(render, _MARK):
        return

    @functools.wraps(render)
    def render_and_count(self: Any, context: Any) -> Any:
        scope = open_scope()
        if scope is None or scope.template_depth:
            return render(self, context)
        scope.template_depth += 1
        started_ns = time.perf_counter_ns()
        try:
            return render(self, context)
        finally:
            scope.template_ns += time.perf_counter_ns() - started_ns
            scope.template_renders += 1
            scope.template_depth -= 1

    setattr(render_and_count, _MARK, True)
    module.Template.render = render_and_count
