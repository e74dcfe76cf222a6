"""The applications of others that `compare.py` serves: their settings, what is in their tables, their pages."""

from __future__ import annotations

from typing import NamedTuple


class Site(NamedTuple):
    """An application from PyPI."""

    packages: tuple[str, ...]
    #: What its settings are, beside those of `COMMON`.
    settings: str
    urls: str
    paths: tuple[str, ...]
    #: Code that fills its tables, after that of `CONTENT`.
    content: str
    #: A command of the application that writes a project into the working directory.
    start: str = ""


COMMON = """
import os, sys
SECRET_KEY = "only for a comparison"
ALLOWED_HOSTS = ["*"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
STATIC_URL = "/static/"
MEDIA_ROOT = os.path.join(os.environ["HOME"], "media")
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ["HOME"] + "/db.sqlite3"}}
ROOT_URLCONF = "site_urls"
DJANGO = ["django.contrib.admin", "django.contrib.auth", "django.contrib.contenttypes",
    "django.contrib.sessions", "django.contrib.messages", "django.contrib.staticfiles"]
MIDDLEWARE = ["probe.ProbeMiddleware", "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware", "django.middleware.common.CommonMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware"]
CONTEXT = ["django.template.context_processors.request", "django.contrib.auth.context_processors.auth",
    "django.contrib.messages.context_processors.messages"]
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True,
    "OPTIONS": {"context_processors": CONTEXT}}]
"""

WSGI = """
import os
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "site_settings")
from django.core.wsgi import get_wsgi_application
import probe
application = probe.probed(get_wsgi_application())
"""

CONTENT = """
import django; django.setup()
from django.contrib.auth import get_user_model
User = get_user_model()
"""

ADMIN = """
/ /login/ /auth/user/ /auth/user/add/ /auth/user/1/change/ /auth/user/1/history/ /auth/user/1/delete/
/auth/group/ /auth/group/add/ /password_change/ /nowhere/ /auth/user/99/change/ /jsi18n/ /auth/user/?q=x
/auth/user/?is_staff__exact=1 /auth/user /autocomplete/
""".split()


def pages(admin: str, more: str) -> tuple[str, ...]:
    """Return the pages of Django's admin, which is mounted at `admin`, one that isn't there, and more."""
    return (*(admin + page for page in ADMIN), "/nowhere/", *more.split())


SITES = {
    "wagtail": Site(
        packages=("wagtail",),
        start="wagtail start mysite .",
        settings="""
from mysite.settings.base import *
ROOT_URLCONF = "mysite.urls"
STORAGES["staticfiles"] = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
DATABASES["default"]["NAME"] = os.environ["HOME"] + "/db.sqlite3"
MIDDLEWARE = ["probe.ProbeMiddleware", *MIDDLEWARE]
""",
        content="""
import io
from django.contrib.auth.models import Group
from django.core.files.images import ImageFile
from PIL import Image as Picture
from wagtail.contrib.redirects.models import Redirect
from wagtail.documents.models import Document
from wagtail.images.models import Image
from wagtail.models import Collection, Page, Site, Task, Workflow, WorkflowPage, WorkflowTask
root = Page.objects.get(slug="home")
users = [User.objects.create(username=f"editor{n}", is_staff=True) for n in range(12)]
for number, user in enumerate(users):
    user.groups.set([Group.objects.create(name=f"group {number}")])
    page = root.add_child(instance=Page(title=f"Page {number}", slug=f"page{number}", owner=user))
    page.save_revision(user=user, log_action=True).publish()
    page.add_child(instance=Page(title=f"Child {number}", slug="child"))
    file = io.BytesIO(); Picture.new("RGB", (40, 30)).save(file, "PNG")
    Image.objects.create(title=f"Image {number}", file=ImageFile(file, f"{number}.png"), uploaded_by_user=user)
    Document.objects.create(title=f"Document {number}", file=ImageFile(file, f"{number}.pdf"))
    Redirect.objects.create(old_path=f"/old{number}", redirect_page=page)
    Collection.get_first_root_node().add_child(name=f"Collection {number}")
    Site.objects.create(hostname=f"site{number}.example", root_page=page)
    workflow = Workflow.objects.create(name=f"Workflow {number}")
    WorkflowTask.objects.create(workflow=workflow, task=Task.objects.create(name=f"Task {number}"))
    WorkflowPage.objects.create(workflow=workflow, page=page)
""",
        urls="",
        paths=pages(
            "/django-admin",
            """
/ /admin/ /admin/login/ /admin/pages/ /admin/pages/1/ /admin/pages/3/ /admin/pages/4/edit/
/admin/pages/4/history/ /admin/pages/4/delete/ /admin/pages/search/?q=x /admin/pages/4/usage/
/admin/images/ /admin/images/1/ /admin/images/add/ /admin/documents/ /admin/users/ /admin/users/edit/2/
/admin/users/add/ /admin/groups/ /admin/sites/ /admin/redirects/ /admin/reports/locked/
/admin/reports/site-history/ /admin/reports/aging-pages/ /admin/reports/workflow/ /admin/account/
/admin/collections/ /admin/workflows/list/ /admin/workflows/edit/2/ /admin/settings/none/
/documents/1/0.pdf /admin/images/chooser/ /admin/documents/chooser/ /admin/choose-page/ /admin/jsi18n/
/admin/forms/ /admin/sprite/ /admin/pages/1/add_subpage/ /admin/reports/page-types-usage/
/admin/choose-page/3/ /index.html /page1/ /page1/child/ /old3 /search/?query=page
/search/?query=page&page=2
""",
        ),
    ),
    "djoser": Site(
        packages=("djoser", "djangorestframework"),
        settings="""
INSTALLED_APPS = ["rest_framework", "rest_framework.authtoken", "djoser", *DJANGO]
""",
        content="""
from rest_framework.authtoken.models import Token
for number in range(12):
    Token.objects.create(user=User.objects.create(username=f"user{number}", email=f"u{number}@example.com"))
""",
        urls="""
from django.contrib import admin
from django.urls import include, path
urlpatterns = [path("admin/", admin.site.urls), path("auth/", include("djoser.urls")),
    path("auth/", include("djoser.urls.authtoken"))]
""",
        paths=pages(
            "/admin",
            """
/auth/users/ /auth/users/1/ /auth/users/2/ /auth/users/99/ /auth/users/me/ /auth/users/activation/
/auth/users/set_password/ /auth/users/reset_password/ /auth/users/set_username/ /auth/token/login/
/auth/token/logout/ /auth/users/?format=json /auth/users/?format=api /auth/users/me/?format=json
/auth/users/me/?format=api /auth/ /auth/users/resend_activation/ /auth/users/reset_username/
/admin/authtoken/ /admin/authtoken/tokenproxy/ /admin/authtoken/tokenproxy/add/ /auth/users/x/
/auth/users /auth/users/1/?format=json /auth/users/1/?format=xml /auth/users/2/?format=api
/admin/authtoken/tokenproxy/?o=1 /admin/authtoken/tokenproxy/99/change/ /auth/token/
/auth/users/?page=2 /auth/users/99/?format=json /
""",
        ),
    ),
    "oscar": Site(
        packages=("django-oscar", "sorl-thumbnail", "factory-boy"),
        settings="""
from oscar.defaults import *
SITE_ID = 1
INSTALLED_APPS = [*DJANGO, "django.contrib.sites", "django.contrib.flatpages", "oscar.config.Shop",
    "oscar.apps.analytics.apps.AnalyticsConfig", "oscar.apps.checkout.apps.CheckoutConfig",
    "oscar.apps.address.apps.AddressConfig", "oscar.apps.shipping.apps.ShippingConfig",
    "oscar.apps.catalogue.apps.CatalogueConfig", "oscar.apps.catalogue.reviews.apps.CatalogueReviewsConfig",
    "oscar.apps.communication.apps.CommunicationConfig", "oscar.apps.partner.apps.PartnerConfig",
    "oscar.apps.basket.apps.BasketConfig", "oscar.apps.payment.apps.PaymentConfig",
    "oscar.apps.offer.apps.OfferConfig", "oscar.apps.order.apps.OrderConfig",
    "oscar.apps.customer.apps.CustomerConfig", "oscar.apps.search.apps.SearchConfig",
    "oscar.apps.voucher.apps.VoucherConfig", "oscar.apps.wishlists.apps.WishlistsConfig",
    "oscar.apps.dashboard.apps.DashboardConfig", "oscar.apps.dashboard.reports.apps.ReportsDashboardConfig",
    "oscar.apps.dashboard.users.apps.UsersDashboardConfig",
    "oscar.apps.dashboard.orders.apps.OrdersDashboardConfig",
    "oscar.apps.dashboard.catalogue.apps.CatalogueDashboardConfig",
    "oscar.apps.dashboard.offers.apps.OffersDashboardConfig",
    "oscar.apps.dashboard.partners.apps.PartnersDashboardConfig",
    "oscar.apps.dashboard.pages.apps.PagesDashboardConfig",
    "oscar.apps.dashboard.ranges.apps.RangesDashboardConfig",
    "oscar.apps.dashboard.reviews.apps.ReviewsDashboardConfig",
    "oscar.apps.dashboard.vouchers.apps.VouchersDashboardConfig",
    "oscar.apps.dashboard.communications.apps.CommunicationsDashboardConfig",
    "oscar.apps.dashboard.shipping.apps.ShippingDashboardConfig", "widget_tweaks", "haystack",
    "treebeard", "sorl.thumbnail", "django_tables2"]
MIDDLEWARE += ["oscar.apps.basket.middleware.BasketMiddleware",
    "django.contrib.flatpages.middleware.FlatpageFallbackMiddleware"]
CONTEXT += ["oscar.apps.search.context_processors.search_form",
    "oscar.apps.checkout.context_processors.checkout",
    "oscar.apps.communication.notifications.context_processors.notifications",
    "oscar.core.context_processors.metadata"]
HAYSTACK_CONNECTIONS = {"default": {"ENGINE": "haystack.backends.simple_backend.SimpleEngine"}}
""",
        content="""
from oscar.test.factories import (ConditionalOfferFactory, ConditionFactory, BenefitFactory, RangeFactory,
    create_order, create_product)
for number in range(10):
    product = create_product(title=f"Product {number}", num_in_stock=5)
    chosen = RangeFactory(products=[product])
    ConditionalOfferFactory(name=f"Offer {number}", slug=f"offer-{number}", status="Open",
        condition=ConditionFactory(range=chosen), benefit=BenefitFactory(range=chosen))
    create_order(number=f"{1000 + number}", user=User.objects.get(username="ada"))
""",
        urls="""
from django.apps import apps
from django.contrib import admin
from django.urls import include, path
urlpatterns = [path("admin/", admin.site.urls), path("", include(apps.get_app_config("oscar").urls[0]))]
""",
        paths=pages(
            "/admin",
            """
/ /catalogue/ /basket/ /basket/saved/ /accounts/login/ /accounts/ /accounts/profile/ /accounts/orders/
/accounts/addresses/ /offers/offer-1/ /catalogue/product-1_2/ /accounts/emails/
/accounts/wishlists/ /checkout/ /search/?q=x /offers/
/dashboard/ /dashboard/catalogue/ /dashboard/orders/ /dashboard/users/ /dashboard/partners/
/dashboard/offers/ /dashboard/pages/ /dashboard/ranges/ /dashboard/reviews/ /dashboard/vouchers/
/dashboard/reports/ /dashboard/communications/ /dashboard/shipping/weight-based/ /catalogue/x_1/
/catalogue/category/x_1/ /password-reset/ /accounts/change-password/ /dashboard/catalogue/categories/
/dashboard/orders/statistics/
""",
        ),
    ),
}
