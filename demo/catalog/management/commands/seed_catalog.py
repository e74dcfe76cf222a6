"""Fills the shop with the same goods every time, and never twice."""

from __future__ import annotations

import datetime as dt
import random
from decimal import Decimal
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand
from django.db import transaction

from catalog.models import Category, Order, OrderLine, Product, Review

SEED = 1815
CATEGORIES = {
    "Books": "Notebook",
    "Kettles": "Kettle",
    "Lamps": "Lamp",
    "Mugs": "Mug",
    "Teapots": "Teapot",
}
FINISHES = ("Amber", "Birch", "Cobalt", "Copper", "Indigo", "Linen", "Moss", "Slate")
AUTHORS = ("Annie", "Barbara", "Edsger", "Grace", "Hedy", "Katherine", "Radia")
VERDICTS = ("Would buy again.", "Smaller than it looks.", "A gift, well received.", "It does.")
ORDERS = 300
FIRST_DAY = dt.date(2025, 1, 1)
USERNAME = "ada"
PASSWORD = "analytical-engine"  # printed in the README: this shop is nobody's


class Command(BaseCommand):
    help = "Create the demo catalog, its orders and the user 'ada'; run again, it changes nothing."

    @transaction.atomic
    def handle(self, *args: Any, **options: Any) -> None:
        dice = random.Random(SEED)
        products = self.seed_products(dice)
        self.seed_reviews(dice, products)
        self.seed_orders(dice, products)
        if options["verbosity"]:
            self.stdout.write(
                f"{Category.objects.count()} categories, {Product.objects.count()} products, "
                f"{Review.objects.count()} reviews, {Order.objects.count()} orders, user ada"
            )

    def seed_products(self, dice: random.Random) -> list[Product]:
        """Return every product, in a fixed order."""
        products = []
        for plural, noun in CATEGORIES.items():
            category, _ = Category.objects.get_or_create(
                slug=plural.lower(), defaults={"name": plural}
            )
            for finish in FINISHES:
                facts = {
                    "category": category,
                    "name": f"{finish} {noun}",
                    "price": Decimal(dice.randrange(500, 9000)) / 100,
                    "stock": dice.randrange(0, 60),
                }
                slug = f"{finish}-{noun}".lower()
                products.append(Product.objects.get_or_create(slug=slug, defaults=facts)[0])
        return products

    def seed_reviews(self, dice: random.Random, products: list[Product]) -> None:
        """Up to six people speak about each product."""
        reviews = [
            Review(
                product=product,
                author=author,
                stars=dice.randint(1, 5),
                text=dice.choice(VERDICTS),
            )
            for product in products
            for author in dice.sample(AUTHORS, dice.randint(0, 6))
        ]
        Review.objects.bulk_create(reviews, ignore_conflicts=True)

    def seed_orders(self, dice: random.Random, products: list[Product]) -> None:
        """Three orders a day, the first five of them ada's."""
        ada, is_new = get_user_model().objects.get_or_create(
            username=USERNAME,
            defaults={"email": "ada@example.org", "is_staff": True, "is_superuser": True},
        )
        if is_new:
            ada.set_password(PASSWORD)
            ada.save()
        Order.objects.bulk_create(
            (
                Order(
                    reference=f"{SEED}-{n:04}",
                    customer=ada if n < 5 else None,
                    placed_on=FIRST_DAY + dt.timedelta(days=n // 3),
                )
                for n in range(ORDERS)
            ),
            ignore_conflicts=True,
        )
        seeded = Order.objects.filter(reference__startswith=f"{SEED}-").order_by("reference")
        lines = [
            OrderLine(
                order=order,
                product=product,
                quantity=dice.randint(1, 4),
                unit_price=product.price,
            )
            for order in seeded
            for product in dice.sample(products, dice.randint(1, 4))
        ]
        OrderLine.objects.bulk_create(lines, ignore_conflicts=True)
