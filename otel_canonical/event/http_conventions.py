"""Names of the HTTP semantic conventions, the stable ones and the former ones. Pure."""

from __future__ import annotations

#: Attributes in which instrumentations put a URL as it was sent, secrets included.
URL_ATTRIBUTES = ("url.full", "http.target", "http.url")

#: The names of attributes before the HTTP semantic conventions became stable. Instrumentations still
#: write them if `OTEL_SEMCONV_STABILITY_OPT_IN` asks for that.
FORMER_ATTRIBUTES = {
    "http.request.method": ("http.method",),
    "url.path": ("http.target", "http.url"),
    "url.scheme": ("http.scheme",),
    "server.address": ("http.host", "http.server_name", "net.host.name"),
    "network.protocol.version": ("http.flavor",),
    "user_agent.original": ("http.user_agent",),
    "client.address": ("http.client_ip", "net.peer.ip"),
    "http.response.status_code": ("http.status_code",),
}

#: What servers answer where an application fails.
INTERNAL_SERVER_ERROR = 500

#: Methods that the conventions know; any other is shown as `HTTP` or `_OTHER`.
METHODS = frozenset(
    ("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY")
)
