"""Pages in a real browser: what goes wrong in them, and whether all can use them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from axe_core_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

from needs import need

expect.set_options(timeout=30_000)  # on a machine that has much else to do

#: The elements that reach beyond the window and that nothing scrolls.
TOO_WIDE = """() => document.documentElement.scrollWidth <= window.innerWidth ? [] :
    [...document.querySelectorAll("*")].filter((each) => each.getBoundingClientRect().right > window.innerWidth
        && !each.closest(".wide, pre")).map((each) => each.outerHTML.slice(0, 100))"""


@contextmanager
def chromium() -> Iterator[Browser]:
    """Debian's browser, without a window."""
    path = shutil.which("chromium")
    need("chromium", path is not None, "chromium")
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield found
        found.close()


class Watched:
    """A tab, and what went wrong in it: what its console says, and what it asked for that is not at its address."""

    def __init__(self, tab: Page, address: str) -> None:
        self.tab = tab
        self.wrong: list[str] = []
        tab.on("console", self._said)
        tab.on("pageerror", lambda error: self.wrong.append(str(error)))
        tab.on("request", lambda request: request.url.startswith(address) or self.wrong.append(request.url))
        tab.on("dialog", lambda dialog: dialog.accept())

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.wrong.append(message.text)


def faults(tab: Page) -> list[str]:
    """What axe finds wrong for whoever cannot see it, or has no mouse."""
    found = Axe().run(tab)
    return [f"{each['id']}: {node['html']}" for each in found["violations"] for node in each["nodes"]]
