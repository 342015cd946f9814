"""Where each message goes. `piper` gives each test queues of its own."""

import json

import pytest
from piperkit import DirectoryQueue, PiperDaemon
from piperkit.testing import Piper

from mydaemon.component import Mydaemon


def build(argv: list[str]) -> PiperDaemon:
    """A daemon with this component alone, and the queues of two others."""
    for queue in ("invoices", "orders"):
        DirectoryQueue(queue)
    return PiperDaemon(
        name="mydaemon",
        argv=argv,
        components=[Mydaemon()],
        default_message_format="json",
        default_routes={"invoice": "./invoices", "order": "./orders"},
    )


def numbers(contents: list[bytes]) -> list[int]:
    return [json.loads(each)["number"] for each in contents]


def delivered(piper: Piper) -> list[bytes]:
    return [*piper.contents("invoices"), *piper.contents("orders"), *piper.out]


def test_sends_each_message_to_the_queue_for_its_type(piper: Piper) -> None:
    for number, kind in enumerate(["invoice", "order", "letter", "invoice"]):
        piper.put({"type": kind, "number": number})
    piper.run(build)
    assert numbers(piper.contents("invoices")) == [0, 3]
    assert numbers(piper.contents("orders")) == [1]
    assert numbers(piper.out) == [2]


def test_sets_aside_what_has_no_type(piper: Piper) -> None:
    piper.put({"number": 1}, [1, 2], "{ this is not JSON")
    piper.run(build)
    assert [reason for _, reason in piper.errors][:2] == ["it has no type", "not a JSON object"]
    assert len(piper.errors) == 3


def test_sets_aside_what_would_come_back_for_ever(piper: Piper) -> None:
    piper.put({"type": "invoice", "number": 1}, {"type": "letter", "number": 2})
    piper.run(build, '--routes={"invoice": "./in"}')
    assert len(piper.errors) == 1
    assert numbers(piper.out) == [2]


@pytest.mark.slow
def test_loses_nothing_wherever_it_is_killed(piper: Piper) -> None:
    piper.crash_walk(build, {"type": "invoice", "number": 1}, delivered=delivered, places=["invoices"])
