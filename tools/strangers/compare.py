"""Serves applications that others have written and compares every line with an independent probe.

    python tools/strangers/compare.py [wagtail] [djoser] [oscar]

Each application is installed from PyPI into `.cache/strangers`, and asked for its pages by a visitor and by a
user who is logged in, under sync and gthread workers. Status, bytes, route, view, queries and user of
each line are compared with what `probe.py` has seen, and its times must add up, by place and by state. Every
difference is printed; the exit status says whether there was one.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY))
from tests.support import time_sums  # noqa: E402  # found by the line above

CACHE = REPOSITORY / ".cache" / "strangers"
PATIENCE_S = 120.0
CLASSES = {"sync": ["-k", "sync"], "gthread": ["-k", "gthread", "--threads", "4"]}
ROUNDS = 2


class Site(NamedTuple):
    """An application from PyPI."""

    packages: tuple[str, ...]
    #: Commands of `manage.py` that make its tables.
    prepare: tuple[str, ...]
    #: What its settings are, beside those of `COMMON`.
    settings: str
    urls: str
    paths: tuple[str, ...]


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

ADMIN = """
/admin/ /admin/login/ /admin/auth/user/ /admin/auth/user/add/ /admin/auth/user/1/change/
/admin/auth/user/1/history/ /admin/auth/user/1/delete/ /admin/auth/group/ /admin/auth/group/add/
/admin/password_change/ /admin/nowhere/ /admin/auth/user/99/change/ /nowhere/ /admin/jsi18n/
/admin/auth/user/?q=x /admin/auth/user/?is_staff__exact=1 /admin/auth/user /admin/autocomplete/
""".split()

SITES = {
    "wagtail": Site(
        ("wagtail",),
        ("migrate",),
        """
WAGTAIL_SITE_NAME = "comparison"
WAGTAILADMIN_BASE_URL = "http://localhost"
INSTALLED_APPS = ["wagtail.contrib.forms", "wagtail.contrib.redirects", "wagtail.embeds", "wagtail.sites",
    "wagtail.users", "wagtail.snippets", "wagtail.documents", "wagtail.images", "wagtail.search",
    "wagtail.admin", "wagtail", "taggit", "modelcluster", *DJANGO]
MIDDLEWARE += ["wagtail.contrib.redirects.middleware.RedirectMiddleware"]
""",
        """
from django.contrib import admin
from django.urls import include, path
from wagtail.admin import urls as wagtailadmin
from wagtail.documents import urls as documents
from wagtail import urls as pages
urlpatterns = [path("admin/", admin.site.urls), path("cms/", include(wagtailadmin)),
    path("documents/", include(documents)), path("", include(pages))]
""",
        (
            *ADMIN,
            *"""
/ /cms/ /cms/login/ /cms/pages/ /cms/pages/1/ /cms/pages/2/ /cms/pages/2/edit/ /cms/pages/2/history/
/cms/pages/2/delete/ /cms/pages/search/?q=x /cms/images/ /cms/images/add/ /cms/documents/ /cms/users/
/cms/users/add/ /cms/groups/ /cms/sites/ /cms/redirects/ /cms/reports/locked/ /cms/reports/site-history/
/cms/account/ /cms/collections/ /cms/workflows/list/ /cms/settings/none/ /documents/1/x.pdf
/cms/images/chooser/ /cms/documents/chooser/ /cms/choose-page/ /cms/jsi18n/ /cms/forms/ /cms/sprite/
/cms/locales/ /cms/pages/1/add_subpage/ /cms/pages/usage/wagtailcore/page/ /index.html
""".split(),
        ),
    ),
    "djoser": Site(
        ("djoser", "djangorestframework"),
        ("migrate",),
        """
INSTALLED_APPS = ["rest_framework", "rest_framework.authtoken", "djoser", *DJANGO]
""",
        """
from django.contrib import admin
from django.urls import include, path
urlpatterns = [path("admin/", admin.site.urls), path("auth/", include("djoser.urls")),
    path("auth/", include("djoser.urls.authtoken"))]
""",
        (
            *ADMIN,
            *"""
/auth/users/ /auth/users/1/ /auth/users/2/ /auth/users/99/ /auth/users/me/ /auth/users/activation/
/auth/users/set_password/ /auth/users/reset_password/ /auth/users/set_username/ /auth/token/login/
/auth/token/logout/ /auth/users/?format=json /auth/users/?format=api /auth/users/me/?format=json
/auth/users/me/?format=api /auth/ /auth/users/resend_activation/ /auth/users/reset_username/
/admin/authtoken/ /admin/authtoken/tokenproxy/ /admin/authtoken/tokenproxy/add/ /auth/users/x/
/auth/users /auth/users/1/?format=json /auth/users/1/?format=xml /auth/users/2/?format=api
/admin/authtoken/tokenproxy/?o=1 /admin/authtoken/tokenproxy/99/change/ /auth/token/
/auth/users/?page=2 /auth/users/99/?format=json /
""".split(),
        ),
    ),
    "oscar": Site(
        ("django-oscar", "sorl-thumbnail"),
        ("migrate",),
        """
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
        """
from django.apps import apps
from django.contrib import admin
from django.urls import include, path
urlpatterns = [path("admin/", admin.site.urls), path("", include(apps.get_app_config("oscar").urls[0]))]
""",
        (
            *ADMIN,
            *"""
/ /catalogue/ /basket/ /basket/saved/ /accounts/login/ /accounts/ /accounts/profile/ /accounts/orders/
/accounts/addresses/ /accounts/emails/ /accounts/wishlists/ /checkout/ /search/?q=x /offers/
/dashboard/ /dashboard/catalogue/ /dashboard/orders/ /dashboard/users/ /dashboard/partners/
/dashboard/offers/ /dashboard/pages/ /dashboard/ranges/ /dashboard/reviews/ /dashboard/vouchers/
/dashboard/reports/ /dashboard/communications/ /dashboard/shipping/weight-based/ /catalogue/x_1/
/catalogue/category/x_1/ /password-reset/ /accounts/change-password/ /dashboard/catalogue/categories/
/dashboard/orders/statistics/
""".split(),
        ),
    ),
}


def python_of(name: str) -> str:
    """Return the Python of an environment with the application in it, made when it is missing."""
    environment = CACHE / name
    python = environment / "bin" / "python"
    if not (environment / ".installed").exists():
        print(f"Installing {', '.join(SITES[name].packages)}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
        wanted = ("-e", str(REPOSITORY), "Django>=5.2,<5.3", *SITES[name].packages)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *wanted], check=True)
        (environment / ".installed").touch()
    return str(python)


def prepare(python: str, site: Site, home: Path, environment: dict[str, str]) -> None:
    """Write the site's modules, make its tables, and a user."""
    (home / "site_settings.py").write_text(COMMON + site.settings)
    (home / "site_urls.py").write_text(site.urls)
    (home / "site_wsgi.py").write_text(WSGI)
    (home / "probe.py").write_text((Path(__file__).parent / "probe.py").read_text())
    for command in (
        *site.prepare,
        "createsuperuser --noinput --username ada --email ada@example.com",
    ):
        subprocess.run(
            [python, "-m", "django", *shlex.split(command), "--verbosity", "0"],
            cwd=home,
            env=environment,
            check=True,
        )


def session_of(python: str, home: Path, environment: dict[str, str]) -> str:
    """Return a session in which the user is logged in, without asking any page."""
    code = """
import django; django.setup()
from django.contrib.auth import get_user_model, SESSION_KEY, BACKEND_SESSION_KEY, HASH_SESSION_KEY
from django.contrib.sessions.backends.db import SessionStore
user = get_user_model().objects.get(); session = SessionStore()
session[SESSION_KEY] = str(user.pk); session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
session[HASH_SESSION_KEY] = user.get_session_auth_hash(); session.save(); print(session.session_key)
"""
    done = subprocess.run(
        [python, "-c", code], cwd=home, env=environment, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def ask_all(
    python: str, site: Site, arguments: list[str], home: Path, environment: dict[str, str], key: str
) -> list[str]:
    """Serve the site and ask for all of its pages; return the lines."""
    out, err = home / "lines", home / "stderr"
    scripts = Path(python).parent
    command = [str(scripts / "opentelemetry-instrument"), str(scripts / "gunicorn")]
    options = ["--bind", "127.0.0.1:0", "--timeout", "120", "site_wsgi:application"]
    with out.open("wb") as lines, err.open("wb") as errors:
        server = subprocess.Popen(
            [*command, *arguments, *options],
            stdout=lines,
            stderr=errors,
            cwd=home,
            env=environment,
            start_new_session=True,
        )
    try:
        port = _wait_for(err, r"Listening at: http://127\.0\.0\.1:(\d+)")
        number = 0
        for _ in range(ROUNDS):
            for cookie in ("", f"sessionid={key}"):
                for path in site.paths:
                    number += 1
                    connection = http.client.HTTPConnection(
                        "127.0.0.1", int(port), timeout=PATIENCE_S
                    )
                    headers = {
                        "X-Request-ID": f"r{number}",
                        **({"Cookie": cookie} if cookie else {}),
                    }
                    connection.request("GET", path, headers=headers)
                    connection.getresponse().read()
                    connection.close()
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(PATIENCE_S)
    return out.read_text().splitlines()


def _wait_for(file: Path, pattern: str) -> str:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if found := re.search(pattern, file.read_text()):
            return found[1]
        time.sleep(0.05)
    raise SystemExit(f"{pattern} never appeared:\n{file.read_text()}")


def differences(lines: list[str], probed: list[str]) -> tuple[int, list[str]]:
    """Return how many requests were compared, and what is different."""
    found = {line["req_id"]: line for line in map(json.loads, lines)}
    different = []
    probes = [json.loads(text) for text in probed]
    for probe in probes:
        line = found.pop(probe["req_id"], None)
        if line is None:
            different.append(f"{probe['req_id']}: no line")
            continue
        seen = {
            key: line.get(key)
            for key in ("resp_status", "resp_bytes", "req_route", "user_id", "db_queries")
        }
        seen["db_queries"] = seen["db_queries"] or 0
        wanted = {key: probe.get(key) for key in seen}
        wanted["db_queries"] = wanted["db_queries"] or 0
        different += [
            f"{line['req_path']}: {key} {seen[key]!r}, probe {wanted[key]!r} "
            f"(and {probe.get('transactions', 0)} of transaction control)"
            for key in seen
            if seen[key] != wanted[key]
        ]
        view = line.get("resp_view")
        if "views" in probe and not any(str(view).endswith(f".{name}") for name in probe["views"]):
            different.append(f"{line['req_path']}: resp_view {view!r}, probe {probe['views']}")
    different += [f"{line['req_path']}: the probe has not seen it" for line in found.values()]
    return len(probes), different


def wrong_sums(lines: list[str]) -> tuple[list[time_sums.Sums], list[str]]:
    """Return what the times of requests come to, and those that don't add up or are negative."""
    sums, wrong = [], []
    for line in map(json.loads, lines):
        if "view_time" not in line:
            continue
        sums.append(time_sums.sums_of(line))
        if not sums[-1].are_right():
            wrong.append(f"{line['req_path']}: its times don't add up: {sums[-1]}")
        wrong += [f"{line['req_path']}: {key} is negative" for key in time_sums.negative_keys(line)]
    return sums, wrong


def compare(name: str) -> int:
    """Compare one application under each worker class; return the number of differences."""
    site = SITES[name]
    python = python_of(name)
    total = 0
    with tempfile.TemporaryDirectory(prefix=f"{name}-") as scratch:
        home = Path(scratch)
        environment = {
            "PATH": f"{Path(python).parent}:/usr/bin:/bin",
            "HOME": scratch,
            "DJANGO_SETTINGS_MODULE": "site_settings",
            "DJANGO_SUPERUSER_PASSWORD": "only-for-a-comparison",
            "OTEL_PYTHON_CANONICAL_FORMAT": "json",
            "PYTHONPATH": scratch,
        }
        prepare(python, site, home, environment)
        key = session_of(python, home, environment)
        for worker, arguments in CLASSES.items():
            output = home / f"{worker}.probe"
            lines = ask_all(
                *(python, site, arguments, home),
                *({**environment, "PROBE_OUTPUT": str(output)}, key),
            )
            count, different = differences(lines, output.read_text().splitlines())
            sums, wrong = wrong_sums(lines)
            different += wrong
            print(f"{name}, {worker}: {count} requests, {len(different)} differences", flush=True)
            print(f"  times: {time_sums.summary(sums)}", flush=True)
            for text in sorted(set(different)):
                print(f"  {different.count(text)} x {text}")
            total += len(different)
    return total


def main() -> int:
    """Compare the applications that were asked for, else all of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[[], *SITES])
    arguments = parser.parse_args()
    return 1 if sum(compare(name) for name in arguments.names or SITES) else 0


if __name__ == "__main__":
    sys.exit(main())
