"""Chromium over its own protocol, for tests that look at a page as readers do.

Messages are JSON that ends with a zero byte, over two pipes: no network, no library.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
"""Where it is; None where it is not installed."""

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--no-proxy-server",
    "--remote-debugging-pipe",
)


class Chromium:
    """One page in a browser.

    Attributes:
        console: What its console has said, policies that were broken included.
    """

    def __init__(self, to_browser: int, from_browser: int) -> None:
        """Open an empty page."""
        self._to, self._from = to_browser, from_browser
        self._read, self._count = b"", 0
        self._session: str | None = None
        self.console: list[str] = []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        attached = self.send("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.send(f"{domain}.enable")

    def show(self, page: Path, width: int, *, dark: bool = False) -> None:
        """Load a page for a reader with a window of a width and a preference."""
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=900,
            deviceScaleFactor=1,
            mobile=False,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])
        self.send("Page.navigate", url=page.absolute().as_uri())
        self._await("Page.loadEventFired")

    def run(self, expression: str) -> Any:  # noqa: ANN401 - whatever the page gives
        """Return the value of an expression in the page."""
        found = self.send("Runtime.evaluate", expression=expression, returnByValue=True)
        if "exceptionDetails" in found:
            raise RuntimeError(str(found["exceptionDetails"]))
        return found["result"].get("value")

    def press(self, key: str, code: int, text: str = "") -> None:
        """Press a key on the element that has the focus."""
        for kind in ("keyDown", "keyUp"):
            self.send(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                code=key,
                windowsVirtualKeyCode=code,
                **({"text": text} if text and kind == "keyDown" else {}),
            )

    def send(self, method: str, **parameters: object) -> dict[str, Any]:
        """Send one command and return its result."""
        self._count += 1
        number = self._count
        message: dict[str, object] = {"id": number, "method": method}
        message |= {"params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            reply = self._receive()
            if reply.get("id") == number:
                if "error" in reply:
                    raise RuntimeError(f"{method}: {reply['error']}")
                result: dict[str, Any] = reply["result"]
                return result

    def _await(self, event: str) -> None:
        while self._receive().get("method") != event:
            pass

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._read:
            more = os.read(self._from, 1 << 16)
            if not more:
                raise RuntimeError("Chromium has ended")
            self._read += more
        line, _, self._read = self._read.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        self._note(message)
        return message

    def _note(self, message: Mapping[str, Any]) -> None:
        parameters = message.get("params", {})
        match message.get("method"):
            case "Log.entryAdded":
                self.console.append(str(parameters["entry"]["text"]))
            case "Runtime.exceptionThrown":
                self.console.append(str(parameters["exceptionDetails"]))
            case "Runtime.consoleAPICalled":
                self.console.append(str(parameters["args"]))


@contextmanager
def browsing() -> Iterator[Chromium]:
    """Yield a page in a browser that ends with the block.

    The shell gives it our pipes as 3, from which it reads, and 4.
    """
    assert PROGRAM is not None
    for_browser, to_browser = os.pipe()
    from_browser, by_browser = os.pipe()

    renumber = f'exec "$@" 3</dev/fd/{for_browser} 4>/dev/fd/{by_browser}'
    with TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            ["sh", "-c", renumber, "sh", PROGRAM, *FLAGS, f"--user-data-dir={profile}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(for_browser, by_browser),
        )
        os.close(for_browser)
        os.close(by_browser)
        try:
            yield Chromium(to_browser, from_browser)
        finally:
            os.write(to_browser, b'{"id": 0, "method": "Browser.close"}\0')
            try:  # its other processes write to the profile until it has ended
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            os.close(to_browser)
            os.close(from_browser)
