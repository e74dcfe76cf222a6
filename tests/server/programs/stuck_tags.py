"""A template tag that gets stuck."""

from __future__ import annotations

from django import template

register = template.Library()


@register.simple_tag(name="wait_for")
def wait_in_tag(gate):
    import located

    located.wait_for(gate)
    return ""
