"""Every address of the shop."""

from __future__ import annotations

from django.urls import path

from catalog import views

urlpatterns = [
    path("", views.home, name="home"),
    path("products/", views.product_list, name="product-list"),
    path("products/<slug:slug>/", views.product_detail, name="product-detail"),
    path("cart/add/", views.cart_add, name="cart-add"),
    path("api/products/", views.api_products, name="api-products"),
    path("report.csv", views.report, name="report"),
    path("recommendations/", views.recommendations, name="recommendations"),
    path("account/", views.account, name="account"),
    path("slow/", views.slow, name="slow"),
    path("broken/", views.broken, name="broken"),
    path("broken-template/", views.broken_template, name="broken-template"),
    path("async/", views.asynchronous, name="async"),
    path("queries/<int:n>/", views.queries, name="queries"),
    path("ok/", views.ok, name="ok"),
    path("healthz", views.healthz, name="healthz"),
]
