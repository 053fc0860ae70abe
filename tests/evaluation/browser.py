"""Look at report.html in headless Chromium: there in time, quiet, and with a table that works.

    python -m tests.evaluation.browser --report FILE --work DIR

Loads the file, counts requests and words of the console, sorts and filters the table, and leaves
screenshots in DIR: light, dark, and as wide as a phone. Exits with 1 where something misses.
Needs Chromium (`apt install chromium`).
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import itertools
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import aiohttp

from tests.evaluation.independent import Verdicts

MOST_S, MOST_BYTES = 2.0, 8 * 2**20
SORTED = """(() => {
  const head = document.querySelector('#table th:nth-child(2)');
  head.click(); head.click();
  const cells = [...document.querySelectorAll('#table tbody tr')].map(
    (row) => row.cells[head.cellIndex].textContent);
  return cells.length > 1 && cells.every((cell, n) => !n || cells[n - 1] >= cell);
})()"""
FILTERED = """(() => {
  const rows = () => document.querySelectorAll('#table tbody tr').length;
  const box = document.getElementById('search');
  const name = document.querySelector('#table tbody tr').cells[0].textContent;
  box.value = name; box.dispatchEvent(new Event('input'));
  const found = rows();
  box.value = 'no such name'; box.dispatchEvent(new Event('input'));
  const none = rows();
  box.value = ''; box.dispatchEvent(new Event('input'));
  return found >= 1 && found < 100 && none === 0 && rows() > 1;
})()"""


class Browser:
    """A page of Chromium, by its DevTools protocol."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count()
        self.events: list[dict[str, Any]] = []

    async def ask(self, method: str, **params: object) -> dict[str, Any]:
        """Send a command and give its result; events that come meanwhile are kept."""
        number = next(self._numbers)
        await self._socket.send_json({"id": number, "method": method, "params": params})
        while True:
            told: dict[str, Any] = await self._socket.receive_json(timeout=60)
            if told.get("id") == number:
                if "error" in told:
                    raise RuntimeError(f"{method}: {told['error']}")
                result: dict[str, Any] = told["result"]
                return result
            self.events.append(told)

    async def run(self, script: str) -> object:
        """Give the value of an expression in the page."""
        found = await self.ask("Runtime.evaluate", expression=script, returnByValue=True)
        if "exceptionDetails" in found:
            raise RuntimeError(str(found["exceptionDetails"]))
        value: object = found["result"].get("value")
        return value

    async def until(self, method: str) -> None:
        """Wait for an event."""
        while not any(each.get("method") == method for each in self.events):
            self.events.append(await self._socket.receive_json(timeout=60))

    async def picture(self, *, width: int, dark: bool) -> bytes:
        """Give a screenshot, PNG."""
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        await self.ask("Emulation.setEmulatedMedia", features=scheme)
        size = {"width": width, "height": 1400, "deviceScaleFactor": 1, "mobile": width < 500}
        await self.ask("Emulation.setDeviceMetricsOverride", **size)
        shot = await self.ask("Page.captureScreenshot", format="png")
        return base64.b64decode(shot["data"])


async def look(address: str, verdicts: Verdicts) -> dict[str, bytes]:
    """Open the report and judge it; gives screenshots."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    assert chromium, "needs Chromium: apt install chromium"
    with tempfile.TemporaryDirectory() as home:
        flags = ("--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={home}")
        process = await asyncio.create_subprocess_exec(
            *(chromium, *flags, "--remote-debugging-port=0", "about:blank"),
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            assert process.stderr is not None
            async for line in process.stderr:
                if b"DevTools listening on" in line:
                    break
            port = line.decode().rpartition("ws://")[2].partition("/")[0]
            async with aiohttp.ClientSession() as session:
                pages = await (await session.get(f"http://{port}/json")).json(content_type=None)
                (page,) = (e["webSocketDebuggerUrl"] for e in pages if e["type"] == "page")
                async with session.ws_connect(page, max_msg_size=2**28) as socket:
                    return await judge(Browser(socket), address, verdicts)
        finally:
            process.terminate()
            await process.wait()


async def judge(browser: Browser, address: str, verdicts: Verdicts) -> dict[str, bytes]:
    """Load the report, use its table, take pictures."""
    for domain in ("Page", "Runtime", "Log", "Network"):
        await browser.ask(f"{domain}.enable")
    browser.events.clear()
    started = time.monotonic()
    await browser.ask("Page.navigate", url=address)
    await browser.until("Page.loadEventFired")
    rows = await browser.run("document.querySelector('#shown').textContent")
    took = time.monotonic() - started
    verdicts.add(f"complete in {took:.2f} s: {rows}", took <= MOST_S)
    verdicts.add("sorts", await browser.run(SORTED) is True)
    verdicts.add("filters", await browser.run(FILTERED) is True)
    shots = {
        name: await browser.picture(width=width, dark=dark)
        for name, width, dark in (
            ("light", 1280, False),
            ("dark", 1280, True),
            ("phone", 390, False),
        )
    }
    asked = [
        each["params"]["request"]["url"]
        for each in browser.events
        if each.get("method") == "Network.requestWillBeSent"
    ]
    others = [url for url in asked if url != address and url[:5] != "data:"]
    verdicts.add(f"asks for nothing else: {others}", not others)
    loud = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")
    said = [each["params"] for each in browser.events if each.get("method") in loud]
    verdicts.add(f"says nothing to the console: {said}", not said)
    return shots


def main() -> int:
    """Give the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--report", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="screenshots go there")
    flags = parser.parse_args()
    flags.work.mkdir(parents=True, exist_ok=True)
    verdicts = Verdicts()
    size = flags.report.stat().st_size
    verdicts.add(f"{size:,} bytes", size < MOST_BYTES)
    shots = asyncio.run(look(flags.report.resolve().as_uri(), verdicts))
    for name, shot in shots.items():
        (flags.work / f"{name}.png").write_bytes(shot)
    return int(verdicts.missed)


if __name__ == "__main__":
    sys.exit(main())
