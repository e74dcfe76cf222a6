"""The demo shop, as it is or, with `CHANGED=1`, after a deploy that made two of its pages worse."""

from __future__ import annotations

import functools
import os
import time

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "demo_shop.settings")
django.setup()

from catalog import views  # noqa: E402 - after django.setup()
from catalog.models import Product  # noqa: E402

SLOWER = 0.3
LOOP = 12


def slower(view):
    """Make a view take 30 % longer: of the CPU, which a busy machine changes less than the clock."""

    @functools.wraps(view)
    def changed(request, *args, **kwargs):
        started = time.thread_time()
        response = view(request, *args, **kwargs)
        until = started + (time.thread_time() - started) * (1 + SLOWER)
        while time.thread_time() < until:
            pass
        return response

    return changed


def looping(view):
    """Put a query into a loop."""

    @functools.wraps(view)
    def changed(request, *args, **kwargs):
        for key in range(LOOP):
            Product.objects.filter(pk=key).first()
        return view(request, *args, **kwargs)

    return changed


if os.environ.get("CHANGED"):
    views.product_detail = slower(views.product_detail)
    views.api_products = looping(views.api_products)

from demo_shop.wsgi import application  # noqa: E402, F401 - its URLs take the views as they are now
