"""The sales report, read from the database while it is being sent."""

from __future__ import annotations

import csv
from collections.abc import Iterator

from catalog.models import Order

HEADER = ("date", "order", "product", "quantity", "unit_price")


class EchoBuffer:
    """A file that hands back what is written, so that csv can format one row at a time."""

    def write(self, row: str) -> str:
        return row


def sales_rows() -> Iterator[str]:
    """Yield one CSV row per order line; each order costs a query while the client reads."""
    writer = csv.writer(EchoBuffer())
    yield writer.writerow(HEADER)
    for order in Order.objects.filter(placed_on__isnull=False).iterator(chunk_size=50):
        for line in order.lines.select_related("product").order_by("pk"):
            yield writer.writerow(
                (
                    order.placed_on,
                    order.reference,
                    line.product.name,
                    line.quantity,
                    line.unit_price,
                )
            )
