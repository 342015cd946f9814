"""The documentation site: what is wrong with a page ends its build, and every page is read on any screen."""

from __future__ import annotations

import functools
import http.server
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from browsing import TOO_WIDE, Watched, chromium
from checkout import ALL, ROOT

pytestmark = pytest.mark.slow

NEEDED = ("docs", "runtime", "tools", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "zensical.toml")


def copy(directory: Path) -> Path:
    """What the site is made of, in a directory of its own."""
    for name in NEEDED:
        found = ROOT / name
        if found.is_dir():
            shutil.copytree(found, directory / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            directory.mkdir(parents=True, exist_ok=True)
            shutil.copy(found, directory)
    return directory


def build(directory: Path) -> subprocess.CompletedProcess[str]:
    """What `make docs` does. The package is the copy's, too."""
    return subprocess.run(
        [sys.executable, "tools/site.py"],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(directory / "runtime")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = copy(tmp_path_factory.mktemp("docs") / "it")
    done = build(directory)
    assert done.returncode == 0, done.stdout
    return directory / "build" / "site"


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    handler = functools.partial(Quiet, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.mark.parametrize(
    ("width", "theme"), [(1280, "light"), (360, "dark"), *([(1280, "dark"), (360, "light")] if ALL else [])]
)
def test_every_page_is_read_on_every_screen_and_asks_no_other_host(
    browser: Browser, address: str, site: Path, theme: str, width: int
) -> None:
    pages = sorted(path.name for path in site.glob("[!.]*.html"))
    assert {"index.html", "api.html", "commands.html", "security.html"} <= set(pages)
    tab = browser.new_page(color_scheme=theme, viewport={"width": width, "height": 800})  # type: ignore[arg-type]
    watched = Watched(tab, address)
    colours = set()
    for page in pages:
        response = tab.goto(address + page)
        assert response is not None
        assert response.ok
        assert tab.evaluate(TOO_WIDE) == [], page
        assert tab.locator("h1").count() == 1, page
        colours.add(tab.evaluate("getComputedStyle(document.body).backgroundColor"))
    tab.close()
    assert watched.wrong == []
    (colour,) = colours
    bright = sum(map(int, re.findall(r"\d+", colour)[:3])) > 3 * 128
    assert bright == (theme == "light")


def test_search_finds_a_configuration_key(browser: Browser, address: str) -> None:
    tab = browser.new_page(viewport={"width": 1280, "height": 800})
    watched = Watched(tab, address)
    tab.goto(address)
    tab.keyboard.press("Control+k")
    tab.keyboard.type("queue_out_limit")
    expect(tab.locator("a[href*='reference.html']").filter(visible=True).last).to_be_visible()
    tab.close()
    assert watched.wrong == []


def test_pages_are_linked_and_their_commands_have_their_help(site: Path) -> None:
    front = (site / "index.html").read_text()
    for page in site.glob("[!.4]*.html"):
        assert page.name in front, page.name
    commands = (site / "commands.html").read_text()
    for name in ("piperctl new", "piperctl queue requeue", "piperctl pipeline drain"):
        assert name in commands
    api = (site / "api.html").read_text()
    for name in ("process_batch", "time_limit", "crash_walk", "enqueue_many", "ConfigError"):
        assert name in api


@pytest.mark.parametrize(
    ("page", "text", "said"),
    [
        ("docs/guide.md", "[there](nowhere.md)", "nowhere.md"),
        ("docs/guide.md", "[there](../runtime/piperkit/source.py)", "source.py"),
        ("docs/guide.md", "[there](operating.md#no-such-part)", "no-such-part"),
        ("docs/api.md", "::: piperkit.option.Optoin", "Optoin"),
        ("README.md", "[there](docs/nowhere.md)", "nowhere.md"),
    ],
)
def test_what_leads_nowhere_ends_the_build(tmp_path: Path, page: str, text: str, said: str) -> None:
    directory = copy(tmp_path / "it")
    with open(directory / page, "a") as file:
        file.write(f"\n{text}\n")
    done = build(directory)
    assert done.returncode != 0
    assert said in re.sub(r"\x1b\[[\d;]*m", "", done.stdout)  # without the colours
