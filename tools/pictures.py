"""Make the pictures of docs/ from the real programs, on a pipeline that is at work: `make pictures`.

It needs what the tests need: textual, and chromium for the page.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import tempfile
import threading
import time
from pathlib import Path

from piperkit import Failure, engines
from piperkit.dirq import DirectoryQueue
from piperkit.dirq.acts import Operator
from piperkit.pipeline import description, graph
from piperkit.top.app import Top

DOCS = Path(__file__).parents[1] / "docs"
CHAIN = {"reader": ["parser"], "parser": ["router"], "router": ["archive", "pager"], "archive": [], "pager": []}


class Work:
    """Moves messages through the queues, so that there is something to see."""

    def __init__(self, spool: Path) -> None:
        self._stop = threading.Event()
        self._spool = spool
        for name in CHAIN:
            DirectoryQueue(spool / name).close()
        with DirectoryQueue(spool / "archive") as queue:
            for number in range(30):
                queue.enqueue({"type": "info", "text": f"line {number}"})
            for claim in queue.claim(12):
                queue.banish(claim.id, Failure("the disk of db1 is full"))
        Operator(spool / "pager", "jane").pause(None, "the pagers are changed")
        self._threads = [threading.Thread(target=self._run, args=(name,)) for name in CHAIN]
        for thread in self._threads:
            thread.start()

    def _run(self, name: str) -> None:
        targets = CHAIN[name]
        queue = DirectoryQueue(self._spool / name, next_queue=self._spool / targets[0] if targets else None)
        number = 0
        while not self._stop.is_set():
            if name == "reader":
                for _ in range(8):
                    queue.enqueue({"type": "info", "text": "something happened"})
            for claim in queue.claim(20 if name != "pager" else 0):
                number += 1
                if name == "router" and number % 4 == 0:
                    queue.dispatch(claim.id, str(self._spool / "pager"))
                elif name == "archive" and number > 5:
                    queue.cancel(claim.id)
                else:
                    queue.commit(claim.id)
            time.sleep(0.05)
        queue.close()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="piperkit-pictures-") as directory:
        home = Path(directory, "alerts")
        home.mkdir()
        text = "".join(f"[daemons.{name}]\nto = {targets}\n" for name, targets in CHAIN.items())
        (home / "pipeline.toml").write_text(f'name = "alerts"\nspool = "{home}/spool"\n{text}')
        pipeline = description.load(home / "pipeline.toml")
        work = Work(home / "spool")
        try:
            views = [engines.view(queue) for queue in pipeline.queues()]
            app = Top(views, pipeline.name, every=0.5, graph=graph.of(pipeline))
            asyncio.run(_terminal(app))
            _page(home)
        finally:
            work.stop()


async def _terminal(app: Top) -> None:
    async with app.run_test(size=(100, 22)) as pilot:
        for _ in range(20):
            await pilot.pause(0.5)
        drawn = app.export_screenshot(title="piperctl top")
    # Its fonts would come from another host.
    drawn = re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL).replace("Fira Code", "monospace")
    (DOCS / "top.svg").write_text(drawn, encoding="utf-8")
    print(f"{DOCS / 'top.svg'} is made")


def _page(home: Path) -> None:
    from playwright.sync_api import sync_playwright

    from piperkit.web import app, guard

    views = [engines.view(queue) for queue in description.load(home / "pipeline.toml").queues()]
    hosts: set[str] = set()
    token = guard.new_token()
    web = app.Web(views, "alerts", token, hosts, every=0.5, graph=graph.of(description.load(home / "pipeline.toml")))
    listening = threading.Event()
    ports: list[int] = []

    def announce(port: int) -> None:
        hosts.add(f"127.0.0.1:{port}")
        ports.append(port)
        listening.set()

    threading.Thread(target=app.serve, args=(web, "127.0.0.1", 0, announce), daemon=True).start()
    listening.wait(30)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 1000, "height": 480})
        tab.goto(f"http://127.0.0.1:{ports[0]}/?token={token}")
        time.sleep(3)
        tab.screenshot(path=DOCS / "web.png")
        browser.close()
    web.end_streams()
    print(f"{DOCS / 'web.png'} is made")


if __name__ == "__main__":
    main()
