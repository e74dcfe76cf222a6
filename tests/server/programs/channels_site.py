"""A Django site with websockets by Channels: a sync consumer, an async one, and one that raises."""

from __future__ import annotations

import os

import django
from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", __name__)

SECRET_KEY = "only for tests"
ALLOWED_HOSTS = ["localhost"]
ROOT_URLCONF = __name__
INSTALLED_APPS = ["channels"]
urlpatterns = []


def _application():
    from channels.generic.websocket import AsyncWebsocketConsumer, WebsocketConsumer
    from channels.routing import ProtocolTypeRouter, URLRouter
    from django.urls import path

    django.setup()

    class Chat(WebsocketConsumer):
        def connect(self):
            self.accept()
            self.close()

    class Feed(AsyncWebsocketConsumer):
        async def connect(self):
            await self.accept()
            await self.close()

    class Broken(WebsocketConsumer):
        def connect(self):
            raise LookupError("no such room")

    routes = [
        path("chat/<str:room>/", Chat.as_asgi()),
        path("feed/", Feed.as_asgi()),
        path("broken/<int:number>/", Broken.as_asgi()),
    ]
    return ProtocolTypeRouter({"http": get_asgi_application(), "websocket": URLRouter(routes)})


application = _application()
