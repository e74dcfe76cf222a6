"""What the shop sells, what people said of it and who ordered it."""

from __future__ import annotations

from django.conf import settings
from django.db import models


class Category(models.Model):
    name = models.CharField(max_length=60)
    slug = models.SlugField(unique=True)

    class Meta:
        ordering = ("name",)
        verbose_name_plural = "categories"

    def __str__(self) -> str:
        return self.name


class Product(models.Model):
    category = models.ForeignKey(Category, models.CASCADE, related_name="products")
    name = models.CharField(max_length=120)
    slug = models.SlugField(unique=True)
    price = models.DecimalField(max_digits=8, decimal_places=2)
    stock = models.PositiveIntegerField(default=0)

    class Meta:
        ordering = ("name",)

    def __str__(self) -> str:
        return self.name


class Review(models.Model):
    product = models.ForeignKey(Product, models.CASCADE, related_name="reviews")
    author = models.CharField(max_length=60)
    stars = models.PositiveSmallIntegerField()
    text = models.TextField(blank=True)

    class Meta:
        ordering = ("author",)
        constraints = (
            models.UniqueConstraint(fields=("product", "author"), name="one_review_each"),
        )

    def __str__(self) -> str:
        return f"{self.author}: {self.stars} of 5"


class Order(models.Model):
    reference = models.CharField(max_length=32, unique=True)
    customer = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="orders"
    )
    placed_on = models.DateField(null=True, blank=True)  # none while it is a cart

    class Meta:
        ordering = ("placed_on", "reference")

    def __str__(self) -> str:
        return self.reference


class OrderLine(models.Model):
    order = models.ForeignKey(Order, models.CASCADE, related_name="lines")
    product = models.ForeignKey(Product, models.PROTECT)
    quantity = models.PositiveIntegerField()
    unit_price = models.DecimalField(max_digits=8, decimal_places=2)

    class Meta:
        constraints = (
            models.UniqueConstraint(fields=("order", "product"), name="one_line_per_product"),
        )

    def __str__(self) -> str:
        return f"{self.quantity} of product {self.product_id}"
