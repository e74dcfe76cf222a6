"""What a customer pays: volume discounts, to the cent."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal

from catalog.models import Product

CENT = Decimal("0.01")
DISCOUNTS = ((50, Decimal("0.15")), (10, Decimal("0.08")), (5, Decimal("0.03")))


def price_of(product: Product, quantity: int) -> Decimal:
    """Return the price of so many pieces, with the best discount that applies."""
    discount = next((share for least, share in DISCOUNTS if quantity >= least), Decimal(0))
    return (product.price * quantity * (1 - discount)).quantize(CENT, ROUND_HALF_UP)


def price_ladder(product: Product) -> list[tuple[int, Decimal]]:
    """Return the price at one piece and at each discount's threshold."""
    return [(n, price_of(product, n)) for n in (1, *sorted(least for least, _ in DISCOUNTS))]
