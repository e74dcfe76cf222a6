"""Chromium without a window, asked over its own protocol: what it requests, what it complains of."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

from tests.support.peers.tools import give_up
from tests.support.servers import PATIENCE_S, eventually

_NAMES = ("chromium", "chromium-browser", "google-chrome")
#: Larger than any screenshot.
_MOST_BYTES = 64 << 20


class Browser:
    """One page of a browser."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._numbers = itertools.count(1)
        #: Every event since the page was opened, by method.
        self.events: list[dict[str, Any]] = []

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and return its result."""
        number = next(self._numbers)
        self._connection.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._connection.recv(PATIENCE_S))
            if message.get("id") == number:
                assert "error" not in message, message
                result: dict[str, Any] = message["result"]
                return result
            self.events.append(message)

    def open(self, path: Path, width: int, theme: str) -> None:
        """Show a file at a width, to a reader who prefers `light` or `dark`."""
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.ask(f"{domain}.enable")
        preference = [{"name": "prefers-color-scheme", "value": theme}]
        self.ask("Emulation.setEmulatedMedia", features=preference)
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        self.ask("Emulation.setDeviceMetricsOverride", **size)
        self.ask("Page.navigate", url=path.as_uri())
        eventually(
            lambda: self.evaluate("document.readyState") == "complete", lambda: str(self.events)
        )

    def evaluate(self, expression: str) -> Any:
        """Return the value of an expression on the page."""
        answer = self.ask("Runtime.evaluate", expression=expression, returnByValue=True)
        return answer["result"].get("value")

    def screenshot(self, path: Path, height: int) -> None:
        """Write what is on top of the page to a PNG file."""
        width = self.evaluate("document.documentElement.clientWidth")
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        shot = self.ask("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))

    def requested(self) -> list[str]:
        """Return the address of everything that was asked for."""
        return [
            event["params"]["request"]["url"]
            for event in self.events
            if event.get("method") == "Network.requestWillBeSent"
        ]

    def complaints(self) -> list[str]:
        """Return what stands on the console, and exceptions."""
        methods = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
        return [json.dumps(event) for event in self.events if event.get("method") in methods]


@contextlib.contextmanager
def browser(directory: Path) -> Iterator[Browser]:
    """Start a browser that has no network but this machine."""
    program = next(filter(None, map(shutil.which, _NAMES)), None)
    if program is None:
        give_up("there is no Chromium", "apt-get install chromium")
    profile = directory / "chromium"
    port_file = profile / "DevToolsActivePort"
    options = [
        *("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run"),
        *(
            "--disable-background-networking",
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        ),
        *("--remote-debugging-port=0", "--remote-allow-origins=*", f"--user-data-dir={profile}"),
    ]
    with (directory / "chromium.log").open("wb") as log:
        process = subprocess.Popen([program, *options, "about:blank"], stdout=log, stderr=log)
    try:
        said = (directory / "chromium.log").read_text
        lines = eventually(
            lambda: (
                port_file.exists() and len(found := port_file.read_text().split()) == 2 and found
            ),
            said,
        )
        assert lines
        port, path = lines
        with connect(f"ws://127.0.0.1:{port}{path}", max_size=_MOST_BYTES) as root:
            root_page = Browser(root)
            targets = root_page.ask("Target.getTargets")["targetInfos"]
            target = next(target["targetId"] for target in targets if target["type"] == "page")
        address = f"ws://127.0.0.1:{port}/devtools/page/{target}"
        with connect(address, max_size=_MOST_BYTES) as connection:
            yield Browser(connection)
    finally:
        process.terminate()
        process.wait(PATIENCE_S)
