"""Views of `every_kind` that render partials of templates, which Django has since 6.0."""

from __future__ import annotations

TEMPLATES = {
    "rows.html": "<ul>\n{% partialdef row %}\n{% for item in items %}\n<li>{{ item.pk }}</li>\n"
    "{% endfor %}\n{% endpartialdef %}\n{% for items in lists %}\n{% partial row %}\n{% endfor %}</ul>",
    "bad_rows.html": "<ul>\n{% partialdef row %}\n<li>\n{{ thing.fails }}</li>\n{% endpartialdef %}\n"
    "{% partial row %}</ul>",
}


def partial_page(request):
    """A page whose partial is rendered six times, with a query each time."""
    from django.contrib.contenttypes.models import ContentType
    from django.shortcuts import render

    lists = [ContentType.objects.raw("SELECT 1 AS id") for _ in range(6)]
    return render(request, "rows.html", {"lists": lists})


def partial_alone(request):
    """A partial without its page, twice."""
    from django.shortcuts import render
    from django.template.loader import render_to_string

    render_to_string("rows.html#row", {"items": []})
    return render(request, "rows.html#row", {"items": []})


def partial_page_fails(request):
    """A page whose partial fails."""
    from django.shortcuts import render
    from every_kind import Thing

    return render(request, "bad_rows.html", {"thing": Thing()})


def partial_alone_fails(request):
    """A partial that fails without its page."""
    from django.shortcuts import render
    from every_kind import Thing

    return render(request, "bad_rows.html#row", {"thing": Thing()})
