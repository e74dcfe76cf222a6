"""The pages of the shop, each one a kind of request worth reading a line about."""

from __future__ import annotations

import asyncio
import json
import secrets

from django.contrib.auth.decorators import login_required
from django.db import transaction
from django.db.models import Count
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseBadRequest,
    JsonResponse,
    StreamingHttpResponse,
)
from django.shortcuts import get_object_or_404, render
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

import otel_canonical
from catalog.delivery import Delivery
from catalog.loyalty import points_for
from catalog.models import Category, Order, OrderLine, Product
from catalog.pricing import CENT, price_ladder, price_of
from catalog.recommendations import recommended_names
from catalog.sales_report import sales_rows
from catalog.warehouse import LONGEST_S, wait_for_stock

MOST_QUERIES = 1000
MOST_PIECES = 1000


def home(request: HttpRequest) -> HttpResponse:
    """Two queries and a template."""
    categories = Category.objects.annotate(product_count=Count("products"))
    newest = Product.objects.select_related("category").order_by("-pk")[:6]
    return render(request, "catalog/home.html", {"categories": categories, "newest": newest})


def product_list(request: HttpRequest) -> HttpResponse:
    """The honest N+1: the template asks for each row's category and review count."""
    return render(request, "catalog/product_list.html", {"products": Product.objects.all()})


def product_detail(request: HttpRequest, slug: str) -> HttpResponse:
    """One product with its reviews: two queries, and the pricing timed."""
    product = get_object_or_404(Product.objects.select_related("category"), slug=slug)
    with otel_canonical.timer("pricing"):
        ladder = price_ladder(product)
    context = {"product": product, "ladder": ladder, "reviews": product.reviews.all()}
    return render(request, "catalog/product_detail.html", context)


@csrf_exempt
@require_POST
def cart_add(request: HttpRequest) -> JsonResponse:
    """Puts a product into the visitor's cart and says so on the request's line."""
    try:
        wanted = json.loads(request.body)
    except ValueError:
        return JsonResponse({"error": "the body is not JSON"}, status=400)
    slug = wanted.get("product") if isinstance(wanted, dict) else None
    quantity = wanted.get("quantity", 1) if isinstance(wanted, dict) else None
    if not isinstance(slug, str) or type(quantity) is not int:
        return JsonResponse({"error": "expected a product and a quantity"}, status=400)
    if not 1 <= quantity <= MOST_PIECES:
        return JsonResponse({"error": f"quantity is 1 to {MOST_PIECES}"}, status=400)
    product = Product.objects.filter(slug=slug).first()
    if product is None:
        return JsonResponse({"error": "no such product"}, status=404)

    with otel_canonical.timer("pricing"):
        price = price_of(product, quantity)
    with transaction.atomic():
        order = Order.objects.filter(pk=request.session.get("cart"), placed_on=None).first()
        if order is None:
            order = Order.objects.create(reference=secrets.token_hex(8))
            request.session["cart"] = order.pk
        OrderLine.objects.update_or_create(
            order=order,
            product=product,
            defaults={"quantity": quantity, "unit_price": (price / quantity).quantize(CENT)},
        )
    otel_canonical.set("plan", "pro" if quantity >= 10 else "basic")
    otel_canonical.set("cart_value", float(price))
    otel_canonical.add("cart_items", quantity)
    return JsonResponse({"order": order.reference, "price": str(price)}, status=201)


def api_products(request: HttpRequest) -> JsonResponse:
    """Every product as JSON, in one query."""
    rows = Product.objects.values("slug", "name", "price", "stock", "category__slug")
    return JsonResponse({"products": list(rows)})


def report(request: HttpRequest) -> StreamingHttpResponse:
    """A download whose queries run after the view has returned."""
    response = StreamingHttpResponse(sales_rows(), content_type="text/csv")
    response["Content-Disposition"] = 'attachment; filename="report.csv"'
    return response


def recommendations(request: HttpRequest) -> HttpResponse:
    """A page that survives the failure of the service behind it."""
    return render(request, "catalog/recommendations.html", {"names": recommended_names()})


@login_required
def account(request: HttpRequest) -> HttpResponse:
    """The visitor's own orders; strangers are sent to the login page."""
    orders = request.user.orders.prefetch_related("lines__product")
    return render(request, "catalog/account.html", {"orders": orders})


def slow(request: HttpRequest) -> HttpResponse:
    """Sleeps for ?seconds=, so that deadlines have something to catch."""
    try:
        seconds = float(request.GET.get("seconds", "1"))
    except ValueError:
        return HttpResponseBadRequest("seconds is a number")
    if not 0 <= seconds <= LONGEST_S:  # also refuses nan
        return HttpResponseBadRequest(f"seconds is 0 to {LONGEST_S:g}")
    return HttpResponse(f"slept {wait_for_stock(seconds):g} s")


def broken(request: HttpRequest) -> HttpResponse:
    """Raises two frames further down, in catalog/loyalty.py."""
    return HttpResponse(f"{points_for(1999, 'XTS')} points")


def broken_template(request: HttpRequest) -> HttpResponse:
    """Raises inside a template that another one includes."""
    context = {"delivery": Delivery(carrier="Pigeon Post")}
    return render(request, "catalog/broken_template.html", context)


async def asynchronous(request: HttpRequest) -> HttpResponse:
    """Waits and queries without blocking; needs nothing that a middleware adds."""
    await asyncio.sleep(0.01)
    return HttpResponse(f"{await Product.objects.acount()} products")


def queries(request: HttpRequest, n: int) -> HttpResponse:
    """Runs exactly n queries: one SQL text, n different parameters."""
    if n > MOST_QUERIES:
        raise Http404(f"at most {MOST_QUERIES}")
    for pk in range(1, n + 1):
        Product.objects.filter(pk=pk).values_list("name", flat=True).first()
    return HttpResponse(f"{n} queries")


def ok(request: HttpRequest) -> HttpResponse:
    """The least that Django can do: the floor of every benchmark."""
    return HttpResponse("ok")


def healthz(request: HttpRequest) -> HttpResponse:
    """For the load balancer; a candidate for the excluded addresses."""
    return HttpResponse("healthy")
