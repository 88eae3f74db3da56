"""A Chromium that is driven through its DevTools, over a pipe.

For the tests of the report, and for the pictures of the guide: ``Browser(program).open(address)`` is a tab.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time

LIMIT = 30.0
"""Seconds that an answer may take on a machine that has much else to do."""

# Chromium reads its commands from descriptor 3 and writes what it says to 4.
TRAMPOLINE = """
import fcntl, os, sys
ends = [fcntl.fcntl(int(end), fcntl.F_DUPFD, 20) for end in sys.argv[1:3]]
for place, end in enumerate(ends, 3):
    os.dup2(end, place)
os.execvp(sys.argv[3], sys.argv[3:])
"""

OPTIONS = (
    "--headless", "--remote-debugging-pipe", "--disable-gpu", "--hide-scrollbars", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
    "--disable-dev-shm-usage", "--font-render-hinting=none", "--force-color-profile=srgb",
)  # fmt: skip


class BrowserError(Exception):
    """It ended, said nothing for too long, or refused."""


class Browser:
    """One Chromium, with a profile of its own that is gone with it."""

    def __init__(self, program):
        self._profile = tempfile.mkdtemp(prefix="pytoweb-browser-")
        commands, self._commands = os.pipe()
        self._said, says = os.pipe()
        # Its sandbox refuses to run as root, as in a container.
        sandbox = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
        self._log = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, "-c", TRAMPOLINE, str(commands), str(says), program, *OPTIONS, *sandbox,
             f"--user-data-dir={self._profile}", "about:blank"],
            pass_fds=(commands, says), stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log,
        )  # fmt: skip
        os.close(commands)
        os.close(says)
        self._number = 0
        self._buffer = b""
        self.tabs = {}

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        try:
            self.call("Browser.close")
            self._process.wait(LIMIT)
        except (BrowserError, OSError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        for end in (self._commands, self._said):
            os.close(end)
        self._log.close()
        # A process of it may still write there.
        shutil.rmtree(self._profile, ignore_errors=True)

    def call(self, method, session=None, **parameters):
        """Has it do something; returns its answer."""
        self._number += 1
        command = {"id": self._number, "method": method, "params": parameters}
        if session is not None:
            command["sessionId"] = session
        os.write(self._commands, json.dumps(command).encode() + b"\0")
        end = time.monotonic() + LIMIT
        while True:
            said = self._next(end, method)
            if said.get("id") == self._number:
                if "error" in said:
                    raise BrowserError(f"{method}: {said['error']}")
                return said["result"]

    def _next(self, end, method):
        while b"\0" not in self._buffer:
            if not select.select([self._said], [], [], max(0.0, end - time.monotonic()))[0]:
                raise BrowserError(f"no answer to {method} within {LIMIT} s")
            read = os.read(self._said, 1 << 20)
            if not read:
                self._log.seek(0)
                raise BrowserError(
                    f"the browser has ended: {self._log.read()[-2000:].decode(errors='replace')}"
                )
            self._buffer += read
        line, _, self._buffer = self._buffer.partition(b"\0")
        said = json.loads(line)
        tab = self.tabs.get(said.get("sessionId"))
        if tab is not None and "method" in said:
            tab.hear(said["method"], said["params"])
        return said

    def open(self, address, width=1280, height=900, *, dark=False, scale=1):
        """Opens a page in a tab of its own, and waits until it is loaded."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        tab = self.tabs[session] = Tab(self, session, target)
        for domain in ("Page", "Runtime", "Log", "Network"):
            tab.call(f"{domain}.enable")
        tab.resize(width, height, scale)
        media = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        tab.call("Emulation.setEmulatedMedia", features=media)
        tab.call("Page.navigate", url=address)
        end = time.monotonic() + LIMIT
        while not tab.is_loaded:
            self._next(end, "Page.navigate")
        return tab


class Tab:
    """A page, what it asked the network for, and what went wrong in it."""

    def __init__(self, browser, session, target):
        self._browser, self._session, self._target = browser, session, target
        self.is_loaded = False
        self.errors, self.requests = [], []

    def call(self, method, **parameters):
        return self._browser.call(method, self._session, **parameters)

    def hear(self, method, said):
        if method == "Page.loadEventFired":
            self.is_loaded = True
        elif method == "Runtime.exceptionThrown":
            self.errors.append(
                said["exceptionDetails"].get("exception", {}).get("description", "an exception")
            )
        elif method == "Log.entryAdded" and said["entry"]["level"] == "error":
            self.errors.append(said["entry"]["text"])
        elif method == "Runtime.consoleAPICalled":
            self.errors.append(str([argument.get("value") for argument in said["args"]]))
        elif method == "Network.requestWillBeSent":
            self.requests.append(said["request"]["url"])

    def evaluate(self, script):
        """The value of an expression; of a promise, once it is there."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise BrowserError(str(answer["exceptionDetails"]))
        return answer["result"].get("value")

    def settle(self):
        """Waits until all that was asked for is painted."""
        self.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def resize(self, width, height, scale=1):
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=False,
        )

    def box(self, selector):
        """Left, top, width and height of an element, from the corner of the window."""
        found = f"document.querySelector({selector!r}).getBoundingClientRect()"
        return self.evaluate(f"(box => [box.left, box.top, box.width, box.height])({found})")

    def mouse(self, kind, x, y, **more):
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)
        self.settle()

    def click(self, selector):
        left, top, width, height = self.box(selector)
        for kind in ("mousePressed", "mouseReleased"):
            self.mouse(kind, left + width / 2, top + height / 2, button="left", clickCount=1)

    def press(self, key):
        text = {"text": key} if len(key) == 1 else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key)
        self.settle()

    def picture(self, clip=None):
        """What it shows, as PNG; ``clip``: left, top, width and height of the part."""
        options = {}
        if clip is not None:
            options["clip"] = {**dict(zip(("x", "y", "width", "height"), clip)), "scale": 1}
        return base64.b64decode(self.call("Page.captureScreenshot", format="png", **options)["data"])

    def close(self):
        self._browser.call("Target.closeTarget", targetId=self._target)
