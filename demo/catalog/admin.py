"""The catalog behind the counter."""

from __future__ import annotations

from django.contrib import admin

from catalog.models import Category, Order, OrderLine, Product, Review


class OrderLines(admin.TabularInline):
    model = OrderLine
    extra = 0


@admin.register(Product)
class ProductAdmin(admin.ModelAdmin):
    list_display = ("name", "category", "price", "stock")
    list_filter = ("category",)


@admin.register(Order)
class OrderAdmin(admin.ModelAdmin):
    list_display = ("reference", "customer", "placed_on")
    inlines = (OrderLines,)


admin.site.register([Category, Review])
