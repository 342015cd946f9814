"""`piperctl web`: what the page shows and does, and who may have it do that."""

from __future__ import annotations

import http.client
import os
import re
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import postgresql
from kinds import Database, create
from piperkit import Failure
from piperkit.cli.acting import who
from piperkit.dirq import DirectoryQueue
from piperkit.dirq.view import QueueView
from piperkit.web import guard
from web_page import Page

pytestmark = pytest.mark.slow

Serve = Callable[..., Page]

#: Markup and more, in a message's id, contents and reason.
EVIL = "<script>alert(1)</script>"


def keys(page: Page, path: str) -> list[str]:
    """The messages that a page offers to choose."""
    return re.findall(r'name="message" value="([^"]+)"', page.ask(path).text)


def word_of(page: Page, queue: str) -> str:
    found = re.search(r'name="word" value="([0-9a-f]+)"', page.ask(f"/queues/{queue}").text)
    assert found is not None
    return found[1]


# -- what it shows -----------------------------------------------------------------------------------------------


def test_queues_parts_messages_and_kinds_of_errors_have_addresses(serve: Serve, spool: Path) -> None:
    page = serve()
    first = page.ask("/")
    assert first.status == 200
    assert "6 messages wait, 4 in errors" in first.text
    assert '<a href="/queues/c">c</a>' in first.text
    assert "(read-only)" in first.text
    queue = page.ask("/queues/c?part=incoming").text
    assert '<a href="/queues/c/message?id=c1">c1</a>' in queue
    assert "<form" in queue
    assert "<button name" not in queue, "it is read-only"
    errors = page.ask("/queues/d/errors").text
    found = re.search(r'<a href="([^"]+)">the host is down</a></th>\n<td>3</td>', errors)
    assert found is not None
    of_kind = page.ask(found[1].replace("&amp;", "&")).text
    assert "Those that failed with: the host is down" in of_kind
    assert of_kind.count('<th scope="row">') == 3
    message = page.ask("/queues/d/message?id=e3").text
    assert "too long" in message
    assert "&#34;n&#34;: 1" in page.ask("/queues/c/message?id=c1").text


def test_what_is_not_there_says_so(serve: Serve) -> None:
    page = serve()
    for path, status, words in (
        ("/queues/none", 404, "There is no such queue here."),
        ("/queues/a?part=../..", 404, "A queue has no part ../..."),
        ("/queues/a/message?id=none", 409, "no message none in the queue"),
        ("/queues/a/message?id=..%2F..%2Fetc", 409, "That did not work"),
        ("/queues/a/message", 409, "That did not work"),
        ("/nothing", 404, "Not Found"),
    ):
        answer = page.ask(path)
        assert answer.status == status, path
        assert words in answer.text, path


def test_ids_of_any_bytes_can_be_shown_and_chosen(serve: Serve, spool: Path) -> None:
    odd = os.fsdecode(b"\xff&?|%20 \xc3\xa9")
    with DirectoryQueue(spool / "a") as queue:
        queue.enqueue("of the odd one", odd)
    page = serve("--acts")
    text = page.ask("/queues/a").text
    (address,) = re.findall(r'href="(/queues/a/message[^"]+)"', text)
    assert "of the odd one" in page.ask(address.replace("&amp;", "&")).text
    assert page.act("a", act="hold", part="incoming", message=keys(page, "/queues/a")).status == 303
    assert [entry.id for entry in QueueView(spool / "a").each("hold")] == [odd]


def test_nothing_in_a_message_becomes_markup(serve: Serve, spool: Path) -> None:
    name = EVIL.replace("/", "|")
    with DirectoryQueue(spool / "a") as queue:
        queue.enqueue(EVIL, name)
        queue.claim()
        queue.banish(name, Failure(EVIL))
    page = serve("--acts")
    for path in ("/queues/a?part=errors", "/queues/a/errors", "/"):
        assert "<script>alert" not in page.ask(path).text
    (address,) = re.findall(r'href="(/queues/a/message[^"]+)"', page.ask("/queues/a?part=errors").text)
    text = page.ask(address).text
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text


def test_figures_are_sent_again_and_again(serve: Serve, spool: Path) -> None:
    page = serve()
    connection = http.client.HTTPConnection("127.0.0.1", page.port, timeout=60)
    connection.request("GET", "/live", headers={"Cookie": f"piperctl-token={page.token}"})
    answer = connection.getresponse()
    assert answer.getheader("content-type", "").startswith("text/event-stream")
    with DirectoryQueue(spool / "a") as queue:
        queue.enqueue("more")
    while b"7 messages wait" not in (line := answer.readline()):
        assert line, "the stream has ended"
    page.process.send_signal(signal.SIGTERM)
    page.process.wait(30)  # it does not wait for those who look
    connection.close()


def test_many_open_pages_do_not_keep_others_waiting(serve: Serve) -> None:
    page = serve()
    streams = []
    for _ in range(60):
        connection = http.client.HTTPConnection("127.0.0.1", page.port, timeout=60)
        connection.request("GET", "/live", headers={"Cookie": f"piperctl-token={page.token}"})
        streams.append((connection, connection.getresponse()))
    assert page.ask("/queues/c").status == 200
    for connection, stream in streams:
        while b"messages wait" not in (line := stream.readline()):
            assert line, "the stream has ended"
        connection.close()


# -- what it does ------------------------------------------------------------------------------------------------


def test_messages_are_held_released_requeued_banished_and_deleted(serve: Serve, spool: Path) -> None:
    page = serve("--acts")
    view = QueueView(spool / "c")

    def act(what: str, part: str) -> None:
        answer = page.act("c", act=what, part=part, message=keys(page, f"/queues/c?part={part}"), why="a reason")
        assert answer.status == 303
        assert re.search(r'role="status">\d message', page.ask(answer.headers["location"]).text)

    act("hold", "incoming")
    assert view.counts()["hold"] == 2
    act("release", "hold")
    assert view.counts()["incoming"] == 2
    act("banish", "incoming")
    assert [entry.reason for entry in view.each("errors")] == [f"banished by {who()} (piperctl web): a reason"] * 2
    act("requeue", "errors")
    assert view.counts()["incoming"] == 2
    act("rm", "incoming")
    assert not sum(view.counts().values())


def test_a_kind_of_errors_is_requeued_as_a_whole(serve: Serve, spool: Path) -> None:
    page = serve("--acts")
    answer = page.act("d", act="requeue", kind="the host is down")
    assert "3 messages requeued" in page.ask(answer.headers["location"]).text
    assert QueueView(spool / "d").counts()["errors"] == 1


def test_a_queue_is_paused_with_who_and_why(serve: Serve, spool: Path) -> None:
    page = serve("--acts")
    page.act("b", act="pause", why="it is moved")
    paused = QueueView(spool / "b").paused()
    assert paused is not None
    assert paused.reason == "it is moved"
    assert paused.by.endswith("(piperctl web)")
    assert "has paused the queue: it is moved" in page.ask("/queues/b").text
    page.act("b", act="resume")
    assert QueueView(spool / "b").paused() is None


def test_a_message_that_has_moved_on_or_is_another_one_is_skipped(serve: Serve, spool: Path) -> None:
    page = serve("--acts")
    (chosen,) = keys(page, "/queues/b")
    path = spool / "b" / "incoming" / "b0"
    os.utime(path, (1, 1))  # another message of that name
    answer = page.act("b", act="rm", part="incoming", message=chosen)
    assert "0 messages deleted; 1 skipped, since they have moved on" in page.ask(answer.headers["location"]).text
    assert path.exists()


def test_what_cannot_be_done_says_why(serve: Serve) -> None:
    page = serve("--acts")
    for fields, status, words in (
        ({"act": "explode", "message": keys(page, "/queues/b")}, 400, "&#39;explode&#39; is not an act"),
        ({"act": "release", "message": keys(page, "/queues/b")}, 409, "not what is in incoming, but in hold"),
        ({"act": "hold", "kind": "too long"}, 409, "not what is in errors, but in incoming"),
        ({"act": "hold", "message": "nonsense"}, 400, "names no message"),
        ({"act": "hold", "message": "incoming|x|b0"}, 400, "names no message"),
    ):
        answer = page.act("b", **fields)
        assert (answer.status, words in answer.text) == (status, True), (fields, answer.text)
    assert "no message was chosen" in page.ask(page.act("b", act="hold").headers["location"]).text


# -- who may -----------------------------------------------------------------------------------------------------


def test_without_the_token_nothing_is_shown(serve: Serve, spool: Path) -> None:
    page = serve()
    for path in ("/", "/live", "/queues/a", "/style.css", "/queues/d/message?id=e3"):
        for cookie in ("", "piperctl-token=", "piperctl-token=wrong", f"piperctl-token={page.token[:-1]}"):
            answer = page.ask(path, Cookie=cookie)
            assert answer.status == 401, path
            assert "host is down" not in answer.text
    assert page.ask("/?token=wrong", Cookie="").status == 403
    answer = page.ask(f"/?token={page.token}", Cookie="")
    assert (answer.status, answer.headers["location"]) == (303, "/")
    assert {"HttpOnly", "SameSite=strict"} <= {each.strip() for each in answer.headers["set-cookie"].split(";")}


def test_under_another_name_nothing_is_shown(serve: Serve) -> None:
    """Else a page of another host could have its name lead here, and read with its visitor's cookie."""
    page = serve()
    for host in ("evil.example", f"evil.example:{page.port}", "127.0.0.1", ""):
        answer = page.ask("/", Host=host or " ")
        assert answer.status in (400, 421), host
    assert page.ask("/", Host=f"localhost:{page.port}").status == 200


def test_another_page_can_do_nothing(serve: Serve, spool: Path) -> None:
    page = serve("--acts")
    chosen = keys(page, "/queues/b")
    for origin in ("http://evil.example", "null", f"http://127.0.0.1:{page.port + 1}", " "):
        answer = page.act("b", origin=origin, act="rm", part="incoming", message=chosen)
        assert answer.status == 403, origin
    assert page.act("b", word="guessed", act="rm", part="incoming", message=chosen).status == 403
    assert page.ask("/queues/b/act?act=rm").status == 405
    for method in ("PUT", "DELETE", "PATCH"):
        assert page.ask("/queues/b/act", method=method, Origin=page.address).status == 405
    assert QueueView(spool / "b").counts()["incoming"] == 1


def test_read_only_it_does_nothing_even_when_asked_well(serve: Serve, spool: Path) -> None:
    page = serve()
    answer = page.act("b", word=guard.word(page.token), act="pause")
    assert (answer.status, answer.text) == (403, "This page changes nothing: it was started without --acts.\n")
    assert QueueView(spool / "b").paused() is None


def test_too_much_is_refused(serve: Serve) -> None:
    page = serve("--acts")
    answer = page.ask("/queues/b/act", method="POST", body="x=" + "y" * (2 << 20), Origin=page.address)
    assert answer.status == 413
    answer = page.ask("/queues/b/act", method="POST", body="&".join(["x=y"] * 5000), Origin=page.address)
    assert answer.status == 400


def test_every_answer_has_the_headers_that_keep_others_out(serve: Serve) -> None:
    page = serve()
    for path in ("/", "/queues/a", "/style.css", "/nothing", "/queues/none"):
        headers = page.ask(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        assert "frame-ancestors 'none'" in policy
        assert "server" not in headers


def test_nothing_comes_from_other_hosts(serve: Serve) -> None:
    page = serve()
    for path in ("/", "/queues/a", "/style.css", "/live.js", "/queues/d/errors"):
        assert not re.search(r"(https?:)?//[a-z]", re.sub(r"^//.*$", "", page.ask(path).text, flags=re.MULTILINE)), path


def test_queues_in_a_database_are_shown_and_acted_on(serve: Serve) -> None:
    with postgresql.Server() as server:
        kept = Database(server)
        create(kept.address("b"))
        with kept.open("b") as queue:
            queue.enqueue(b"kept there", "m0")
        page = serve("--acts", kept.address("b"))
        assert "1 message wait" in page.ask("/").text
        assert "kept there" in page.ask("/queues/b/message?id=m0").text
        answer = page.act("b", word=word_of(page, "b"), act="hold", part="incoming", message=keys(page, "/queues/b"))
        assert "1 message held" in page.ask(answer.headers["location"]).text
        assert kept.view("b").counts()["hold"] == 1


# -- how it is started -------------------------------------------------------------------------------------------


def call(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "piperkit.cli", "web", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_the_token_may_be_in_a_file_that_only_its_owner_can_read(serve: Serve, spool: Path, tmp_path: Path) -> None:
    file = tmp_path / "token"
    page = serve("--token-file", str(file))
    assert page.token == "TOKEN", "it is not printed"
    token = file.read_text().strip()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert page.ask("/", Cookie=f"piperctl-token={token}").status == 200
    file.chmod(0o644)
    done = call("--spool", spool, "--token-file", file)
    assert done.returncode == 78
    assert f"can be read by others: chmod 600 {file}" in done.stderr
    file.chmod(0o600)
    file.write_text("short\n")
    assert "must hold 16 characters or more" in call("--spool", spool, "--token-file", file).stderr


def test_a_wrong_command_line_says_what_is_right(spool: Path, tmp_path: Path) -> None:
    assert "--listen here: must be HOST:PORT, [IPV6]:PORT or PORT" in call("--spool", spool, "--listen", "here").stderr
    assert "--every: must be from 0.1s to an hour" in call("--spool", spool, "--every", "0s").stderr
    assert call("--spool", tmp_path / "none").returncode == 73
    assert "leave QUEUE and --spool out" in call("--spool", spool, "--pipeline", tmp_path).stderr


def test_a_port_that_is_taken_is_said(serve: Serve, spool: Path) -> None:
    page = serve()
    done = call("--spool", spool, "--listen", str(page.port))
    assert done.returncode == 1
    assert "Address already in use" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_pipeline_is_drawn(serve: Serve, spool: Path) -> None:
    (spool.parent / "pipeline.toml").write_text(
        f'name = "chain"\nspool = "{spool}"\n[daemons.a]\nto = "b"\n'
        '[daemons.b]\nto = ["c", "d"]\n[daemons.c]\n[daemons.d]\n'
    )
    page = serve("--pipeline", str(spool.parent))
    text = page.ask("/").text
    assert re.search(r"a \(nobody\) 0/s → b \(1 wait, nobody\) ┬ 0/s → c \(2 wait, nobody\)", text)
    assert "<title>Queues – chain</title>" in text  # noqa: RUF001
