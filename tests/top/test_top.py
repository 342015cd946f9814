"""`piperctl top`, driven by keys: what it shows, and what it does, on real queues beside a real daemon."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from shlex import quote
from typing import Any

import pytest
from textual._context import NoActiveAppError
from textual.pilot import Pilot
from textual.widgets import DataTable, Static

import four_queues
import postgresql
from kinds import Database, create
from needs import need
from piperkit import engines
from piperkit.cli import render
from piperkit.dirq import DirectoryQueue
from piperkit.dirq.view import QueueView
from piperkit.pipeline import description, graph
from piperkit.top.app import Overall, Top
from piperkit.top.kinds import KindsScreen
from piperkit.top.message import MessageScreen
from piperkit.top.parts import Help
from piperkit.top.queue import QueueScreen

pytestmark = pytest.mark.slow

PIPELINE = '[daemons.a]\nto = "b"\n[daemons.b]\nto = ["c", "d"]\n[daemons.c]\n[daemons.d]\n'


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    return four_queues.make(tmp_path / "spool")


def top(spool: Path, **more: Any) -> Top:
    views = [engines.view(str(path)) for path in sorted(spool.iterdir()) if path.is_dir()]
    return Top(views, "spool", every=0.2, **more)


def drive(app: Top, script: Callable[[Pilot[None]], Any], size: tuple[int, int] = (80, 24)) -> None:
    """Run the application on a terminal of that size, and a script of keys on it."""

    async def run() -> None:
        async with app.run_test(size=size) as pilot:
            await until(pilot, lambda: rows(app), "the first look")
            await script(pilot)

    asyncio.run(run())


async def until(pilot: Pilot[None], reached: Callable[[], object], what: str) -> None:
    end = time.monotonic() + 60
    while not reached():
        assert time.monotonic() < end, f"waited in vain for {what}; the screen shows {rows(pilot.app)}"
        await pilot.pause(0.02)


def rows(app: Any) -> list[list[str]]:
    """What the table of the screen shows."""
    tables = app.screen.query(DataTable)
    if not tables:
        return []
    table = tables.first()
    return [[str(cell) for cell in table.get_row_at(at)] for at in range(table.row_count)]


def text(app: Any, selector: str) -> str:
    return str(app.screen.query_one(selector, Static).content)


def column(app: Any, at: int) -> list[str]:
    return [row[at] for row in rows(app)]


def test_a_look_that_is_over_before_the_table_has_its_columns_is_shown_when_it_has(
    spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = top(spool)
    begin = Overall.on_mount

    def looked_first(screen: Overall) -> None:
        screen.show(app.feed.look())
        begin(screen)
        assert column(app, 0) == ["a", "b", "c", "d"]

    monkeypatch.setattr(Overall, "on_mount", looked_first)

    async def script(pilot: Pilot[None]) -> None:
        assert column(app, 0) == ["a", "b", "c", "d"]

    drive(app, script)


def test_queues_are_shown_and_sorted_by_the_column_of_a_digit(spool: Path) -> None:
    app = top(spool)

    async def script(pilot: Pilot[None]) -> None:
        assert column(app, 0) == ["a", "b", "c", "d"]
        assert column(app, 1) == ["", "1", "2", "3"]
        assert rows(app)[3][5] == "4"
        assert "6 wait, 4 in errors" in text(app, "#title")
        await pilot.press("2")
        assert column(app, 0) == ["d", "c", "b", "a"]
        await pilot.press("i")
        assert column(app, 0) == ["a", "b", "c", "d"]
        await pilot.press("6")
        assert column(app, 0)[0] == "d"

    drive(app, script)


def test_the_filter_shows_queues_by_a_part_of_their_names(spool: Path) -> None:
    app = top(spool)

    async def script(pilot: Pilot[None]) -> None:
        await pilot.press("slash", "c", "enter")
        assert column(app, 0) == ["c"]
        await pilot.press("escape")
        assert len(column(app, 0)) == 4

    drive(app, script)


def test_the_chain_is_drawn_with_what_waits_and_who_is_missing(spool: Path) -> None:
    (spool.parent / "pipeline.toml").write_text(f'spool = "{spool}"\n{PIPELINE}')
    app = top(spool, graph=graph.of(description.load(spool.parent / "pipeline.toml")))

    async def script(pilot: Pilot[None]) -> None:
        drawn = text(app, "#graph")
        assert "a (nobody)" in drawn
        assert "c (2 wait, nobody)" in drawn
        assert "┬" in drawn

    drive(app, script, (120, 40))


def test_what_flows_is_shown_as_rates(spool: Path) -> None:
    (spool.parent / "pipeline.toml").write_text(f'spool = "{spool}"\n{PIPELINE}')
    app = top(spool, graph=graph.of(description.load(spool.parent / "pipeline.toml")))

    async def script(pilot: Pilot[None]) -> None:
        with DirectoryQueue(spool / "a", next_queue=spool / "b") as queue:

            def flows() -> bool:
                for _ in range(5):
                    queue.enqueue("x")
                for claim in queue.claim(10):
                    queue.commit(claim.id)
                return "/s" in text(app, "#graph") and any(
                    row[0] == "a" and row[8] not in ("", "0") for row in rows(app)
                )

            await until(pilot, flows, "a rate")

    drive(app, script, (120, 40))


@pytest.mark.slow
def test_a_queue_is_paused_with_a_reason_and_resumed(spool: Path) -> None:
    app = top(spool)

    async def script(pilot: Pilot[None]) -> None:
        await pilot.press("down", "p")
        await pilot.press(*"moved", "enter")
        view = QueueView(spool / "b")
        await until(pilot, view.paused, "the pause")
        assert view.paused().reason == "moved"  # type: ignore[union-attr]
        await until(pilot, lambda: "PAUSED" in rows(app)[1][-1], "it to be shown")
        await pilot.press("p", "y")
        await until(pilot, lambda: view.paused() is None, "its end")

    drive(app, script)


@pytest.mark.slow
def test_messages_are_marked_held_and_released(spool: Path) -> None:
    app = top(spool)

    async def script(pilot: Pilot[None]) -> None:
        await pilot.press("down", "down", "enter")
        await until(pilot, lambda: isinstance(app.screen, QueueScreen) and len(rows(app)) == 2, "the messages")
        await pilot.press("a", "h", *"why", "enter")
        view = QueueView(spool / "c")
        await until(pilot, lambda: view.counts()["hold"] == 2, "both to be held")
        await until(pilot, lambda: rows(app) == [], "the list to be empty")
        await pilot.press("r")
        await pilot.press("tab", "tab", "tab", "tab")
        await until(pilot, lambda: len(rows(app)) == 2, "those that are held")
        await pilot.press("l", "y")
        await until(pilot, lambda: view.counts()["incoming"] == 1, "one to be released")

    drive(app, script)


def test_what_looks_in_the_background_asks_nothing_of_a_screen_that_may_have_gone(
    spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, main = top(spool), threading.get_ident()

    def known(screen: object) -> Top:
        if threading.get_ident() != main:
            raise NoActiveAppError  # as of a screen that has been closed
        return app

    for screen in (QueueScreen, KindsScreen):
        monkeypatch.setattr(screen, "app", property(known))

    async def script(pilot: Pilot[None]) -> None:
        await pilot.press("end", "enter")
        await until(pilot, lambda: isinstance(app.screen, QueueScreen) and len(rows(app)) == 3, "the messages")
        await pilot.press("e")
        await until(pilot, lambda: isinstance(app.screen, KindsScreen) and len(rows(app)) == 2, "the kinds")

    drive(app, script)


def test_an_act_that_ends_after_its_screen_has_gone_begins_no_listing(spool: Path) -> None:
    app = top(spool)

    async def script(pilot: Pilot[None]) -> None:
        await pilot.press("end", "enter")
        await until(pilot, lambda: isinstance(app.screen, QueueScreen) and rows(app), "the messages")
        left = app.screen
        assert isinstance(left, QueueScreen)
        await pilot.press("escape")
        await until(pilot, lambda: not left.is_running, "the screen to have gone")
        left._done()
        assert [worker for worker in app.workers if worker.node is left and not worker.is_finished] == []

    drive(app, script)


@pytest.mark.slow
def test_kinds_of_errors_are_counted_and_requeued_as_one(spool: Path) -> None:
    app = top(spool)

    async def script(pilot: Pilot[None]) -> None:
        await pilot.press("end", "enter")
        await until(pilot, lambda: isinstance(app.screen, QueueScreen), "the queue")
        await pilot.press("e")
        await until(pilot, lambda: isinstance(app.screen, KindsScreen) and len(rows(app)) == 2, "the kinds")
        assert [(row[0], row[3]) for row in rows(app)] == [("3", "the host is down"), ("1", "too long")]
        await pilot.press("r", "y")
        await until(pilot, lambda: QueueView(spool / "d").counts()["errors"] == 1, "three to be requeued")
        await until(pilot, lambda: len(rows(app)) == 1, "the other kind alone")
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, MessageScreen), "the example")
        assert "too long" in text(app, "#facts")

    drive(app, script)


def test_a_message_shows_its_contents_and_nothing_in_it_is_obeyed(spool: Path) -> None:
    with DirectoryQueue(spool / "a") as queue:
        queue.enqueue("\x1b]0;title\x07[red]not red[/red]", "evil[b]\x1b")
    app = top(spool)

    async def script(pilot: Pilot[None]) -> None:
        await until(pilot, lambda: column(app, 1)[0] == "1", "the message")
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, QueueScreen) and rows(app), "the message")
        assert rows(app)[0][1] == "evil[b]\\x1b"
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, MessageScreen), "its contents")
        assert text(app, "#text") == "\\x1b]0;title\\x07[red]not red[/red]"

    drive(app, script)


def test_read_only_nothing_is_done(spool: Path) -> None:
    app = top(spool, read_only=True)

    async def script(pilot: Pilot[None]) -> None:
        assert "read-only" in text(app, "#title")
        await pilot.press("p", "y", "enter")
        await until(pilot, lambda: isinstance(app.screen, QueueScreen), "the queue, and no question")
        await pilot.press("d", "y")
        assert isinstance(app.screen, QueueScreen)

    drive(app, script)


def test_help_shows_the_keys_and_escape_goes_back(spool: Path) -> None:
    app = top(spool)

    async def script(pilot: Pilot[None]) -> None:
        await pilot.press("question_mark")
        assert isinstance(app.screen, Help)
        await pilot.press("escape")
        assert not isinstance(app.screen, Help)
        await pilot.press("j", "enter")
        assert isinstance(app.screen, QueueScreen)
        await pilot.press("q")
        await until(pilot, lambda: not isinstance(app.screen, QueueScreen), "to be back")
        await pilot.press("q")

    drive(app, script)


def test_a_queue_that_is_removed_meanwhile_says_so(spool: Path) -> None:
    app = top(spool)

    async def script(pilot: Pilot[None]) -> None:
        (spool / "a" / "incoming").rename(spool / "a" / "gone")
        await until(pilot, lambda: "cannot be counted" in rows(app)[0][-1], "it to be said")
        assert column(app, 0) == ["a", "b", "c", "d"]

    drive(app, script, (140, 30))


@pytest.mark.slow
def test_queues_in_a_database_are_looked_at_and_acted_on(tmp_path: Path) -> None:
    with postgresql.Server() as server:
        kept = Database(server)
        for name in ("in", "out"):
            create(kept.address(name))
        with kept.open("in") as queue:
            for at in range(3):
                queue.enqueue(b"x", f"m{at}")
        app = Top([kept.view(name) for name in ("in", "out")], "database", every=0.2)

        async def script(pilot: Pilot[None]) -> None:
            await until(pilot, lambda: column(app, 1)[0] == "3", "what waits")
            await pilot.press("enter")
            await until(pilot, lambda: isinstance(app.screen, QueueScreen) and len(rows(app)) == 3, "the messages")
            await pilot.press("space", "space", "h", *"why", "enter")
            view = kept.view("in")
            await until(pilot, lambda: view.counts()["hold"] == 2, "two to be held")

        drive(app, script)


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        (b'{"a":[1]}', '{\n  "a": [\n    1\n  ]\n}'),
        (b"plain\ttext\x00", "plain\\x09text\\x00"),
        (b"\xff\x00", "00000000  ff 00                                            .."),
        (b"[" * 5000, "[" * 5000),
    ],
)
def test_contents_are_readable(data: bytes, shown: str) -> None:
    assert render.readable(data) == shown


@pytest.fixture
def terminal(spool: Path) -> Iterator[Callable[..., str]]:
    """`piperctl top` in a real terminal, of tmux; call it with keys to press, and it returns what is seen."""
    need("tmux", shutil.which("tmux") is not None, "tmux")
    name = f"piperkit-{spool.parent.name}"
    tmux = ["tmux", "-L", name, "-f", "/dev/null"]
    command = f"{quote(sys.executable)} -m piperkit.cli top --spool {quote(str(spool))} --every 0.2s"
    subprocess.run([*tmux, "new-session", "-d", "-x", "80", "-y", "24", command], check=True)

    def press(*keys: str) -> str:
        if keys:
            subprocess.run([*tmux, "send-keys", *keys], check=True)
        return subprocess.run([*tmux, "capture-pane", "-p"], capture_output=True, text=True, check=True).stdout

    yield press
    subprocess.run([*tmux, "kill-server"], check=False, capture_output=True)


@pytest.mark.slow
def test_on_a_terminal_of_80_by_24_all_of_it_fits_and_keys_do_what_they_say(
    terminal: Callable[..., str], spool: Path
) -> None:
    def see(*keys: str, wanted: str, gone: str = "\0") -> str:
        seen, end = terminal(*keys), time.monotonic() + 60
        while wanted not in seen or gone in seen:
            assert time.monotonic() < end, f"waited in vain for {wanted}:\n{seen}"
            time.sleep(0.1)
            seen = terminal()
        assert max(map(len, seen.splitlines())) <= 80
        return seen

    seen = see(wanted="6 wait, 4 in errors")
    for name in ("QUEUE", "WAIT", "ERRORS", "OLDEST", "OUT/s", "Pause/resume", "Quit"):
        assert name in seen, seen
    see("?", wanted="sort by that column")
    see("Escape", wanted="6 wait", gone="sort by that column")
    see("End", "Enter", wanted="incoming 3")
    see("e", wanted="the host is down")
    see("Enter", wanted="reason: the host is down")
    see("Escape", wanted="kinds of errors")
    see("Escape", wanted="incoming 3", gone="kinds of errors")
    see("Escape", wanted="6 wait")
    see("2", "p", wanted="Pause d")
    see("Enter", wanted="PAUSED")
    assert QueueView(spool / "d").paused()
