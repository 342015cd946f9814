"""The page in a browser: every view and act by keyboard, no fault of its own, and usable for whoever cannot see it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect
from playwright.sync_api import Page as Tab

from browsing import TOO_WIDE, Watched, chromium, faults
from piperkit import Failure
from piperkit.dirq import DirectoryQueue
from piperkit.dirq.view import QueueView
from web_page import Page

pytestmark = pytest.mark.slow

Serve = Callable[..., Page]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture
def open_page(browser: Browser, serve: Serve) -> Iterator[Callable[..., tuple[Page, Tab]]]:
    """Serve the page, and open it as its owner does; nothing may go wrong in it."""
    opened: list[Watched] = []

    def start(*options: str, **settings: object) -> tuple[Page, Tab]:
        page = serve(*options)
        tab = browser.new_page(**settings)  # type: ignore[arg-type]
        opened.append(Watched(tab, page.address))
        tab.goto(f"{page.address}/?token={page.token}")
        return page, tab

    yield start
    for watched in opened:
        watched.tab.close()
        assert watched.wrong == []


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_every_view_is_usable_by_all(
    open_page: Callable[..., tuple[Page, Tab]], spool: Path, theme: str, width: int
) -> None:
    DirectoryQueue(spool / "a").close()
    page, tab = open_page("--acts", color_scheme=theme, viewport={"width": width, "height": 800})
    for path in (
        "/",
        "/queues/d",
        "/queues/d?part=errors",
        "/queues/a",
        "/queues/d/errors",
        "/queues/d/message?id=e3",
    ):
        response = tab.goto(f"{page.address}{path}")
        assert response is not None
        assert faults(tab) == [], path
        assert tab.evaluate(TOO_WIDE) == [], path


def test_figures_change_by_themselves_and_the_keyboard_stays_where_it_was(
    open_page: Callable[..., tuple[Page, Tab]], spool: Path
) -> None:
    _, tab = open_page()
    link = tab.get_by_role("link", name="c", exact=True)
    link.focus()
    with DirectoryQueue(spool / "a") as queue:
        queue.enqueue("more")
    expect(tab.get_by_text("7 messages wait, 4 in errors")).to_be_visible()
    assert tab.evaluate("document.activeElement.textContent") == "c"
    tab.get_by_role("button", name="Stop updating").click()
    expect(tab.get_by_role("button", name="Go on updating")).to_be_visible()


def test_by_keyboard_alone_messages_are_held_and_requeued_and_a_queue_is_paused(
    open_page: Callable[..., tuple[Page, Tab]], spool: Path
) -> None:
    _, tab = open_page("--acts")
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.textContent") == "Skip to the contents"
    tab.get_by_role("link", name="c", exact=True).focus()
    tab.keyboard.press("Enter")
    expect(tab.get_by_role("heading", name="c", exact=True)).to_be_visible()
    tab.get_by_role("checkbox", name="Choose c1").focus()
    tab.keyboard.press("Space")
    tab.get_by_role("button", name="Hold").focus()
    tab.keyboard.press("Enter")
    expect(tab.get_by_role("status")).to_have_text("1 message held")
    assert [entry.id for entry in QueueView(spool / "c").each("hold")] == ["c1"]
    tab.get_by_role("textbox", name="Why").first.fill("it is moved")
    tab.get_by_role("button", name="Pause the queue").click()
    expect(tab.get_by_text("has paused the queue: it is moved")).to_be_visible()
    tab.get_by_role("button", name="Have it go on").click()
    expect(tab.get_by_role("status")).to_have_text("c resumed")
    tab.get_by_role("link", name="hold").click()
    tab.get_by_role("button", name="Choose all").click()
    tab.get_by_role("button", name="Delete").click()
    expect(tab.get_by_role("status")).to_have_text("1 message deleted")


def test_from_a_kind_of_errors_to_its_message_and_all_of_them_tried_again(
    open_page: Callable[..., tuple[Page, Tab]], spool: Path
) -> None:
    _, tab = open_page("--acts")
    tab.get_by_role("link", name="4 errors of d").click()
    tab.get_by_role("link", name="one of them that failed with the host is down").click()
    expect(tab.get_by_role("definition").filter(has_text="the host is down")).to_be_visible()
    tab.go_back()
    tab.get_by_role("row", name="the host is down").get_by_role("button", name="Try all again").click()
    expect(tab.get_by_role("status")).to_have_text("3 messages requeued")
    assert QueueView(spool / "d").counts()["errors"] == 1


def test_script_in_a_message_is_text(open_page: Callable[..., tuple[Page, Tab]], spool: Path) -> None:
    evil = "<img src=x onerror=alert(1)><script>alert(1)<\\script>"
    with DirectoryQueue(spool / "a") as queue:
        queue.enqueue(evil, evil)
        queue.claim()
        queue.banish(evil, Failure(evil))
    page, tab = open_page("--acts")
    tab.goto(f"{page.address}/queues/a?part=errors")
    tab.get_by_role("link", name=evil).click()
    expect(tab.get_by_role("heading", name=evil)).to_be_visible()
    assert tab.evaluate("document.querySelectorAll('img, main script').length") == 0
