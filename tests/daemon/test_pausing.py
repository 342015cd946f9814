"""An operator pauses a queue: its daemons finish what is in work, and claim nothing until that is over."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable

import pytest

from piperkit.dirq.acts import Operator
from piperkit.testing import Piper
from written import log

Start = Callable[..., "subprocess.Popen[str]"]
Call = Callable[..., "subprocess.CompletedProcess[str]"]
Until = Callable[..., None]


@pytest.fixture
def operator(piper: Piper) -> Operator:
    return Operator(piper.directory / "in", "jane")


@pytest.mark.slow
def test_nothing_is_claimed_until_the_queue_is_resumed_and_everybody_is_told_why(
    piper: Piper, start: Start, call: Call, until: Until, operator: Operator
) -> None:
    start("upper")
    piper.put("before")
    until(lambda: piper.out == [b"BEFORE"], "the first message")
    operator.pause(None, "the database is moved")
    piper.put("later")
    until(lambda: "processing pauses" in log(piper), "the pause")
    assert "waiting for: an operator: jane has paused the queue: the database is moved" in log(piper)
    assert "jane has paused the queue" in call("upper", "--action=status").stdout
    assert piper.counts()["incoming"] == 1
    assert operator.resume()
    until(lambda: piper.out == [b"BEFORE", b"LATER"], "the second message")
    assert log(piper).count("processing goes on") == 1


def test_idle_daemon_notices_a_pause_at_once(
    piper: Piper, start: Start, call: Call, until: Until, operator: Operator
) -> None:
    start("upper", constants={"piperkit.filer.doorbell.LOOK_INTERVAL": 1000.0})
    piper.put("before")
    until(lambda: piper.out == [b"BEFORE"], "the daemon to have nothing more to do")
    until(lambda: "idle" in call("upper", "--action=status").stdout, "the daemon to rest")
    operator.pause(None, "the database is moved")
    until(lambda: "jane has paused the queue" in call("upper", "--action=status").stdout, "the status to say so")


@pytest.mark.slow
def test_pause_ends_by_itself_at_its_time(piper: Piper, start: Start, until: Until, operator: Operator) -> None:
    operator.pause(time.time() + 1.5, "")
    piper.put("a")
    start("upper")
    until(lambda: "processing pauses" in log(piper), "the pause")
    until(lambda: piper.out == [b"A"], "the message")


def test_daemon_can_be_stopped_while_its_queue_is_paused(
    piper: Piper, start: Start, until: Until, operator: Operator
) -> None:
    operator.pause(None, "")
    piper.put("a")
    process = start("upper")
    until(lambda: "processing pauses" in log(piper), "the pause")
    process.terminate()
    assert process.wait(30) == 0
    assert piper.counts()["incoming"] == 1


def test_queue_of_an_earlier_version_that_lacks_the_new_parts_is_worked_on(
    piper: Piper, start: Start, until: Until
) -> None:
    for part in ("hold", "history"):
        os.rmdir(piper.directory / "in" / part)
    piper.put("retry 0", "a")
    start("upper", "--retry-limit=2", "--history=all")
    until(lambda: piper.out == [b"A"] and len(piper.errors) == 1, "the messages")
