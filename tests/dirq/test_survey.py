"""How full a queue is, and what asking that costs."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from dirq_tools import Clock, MakeQueue
from piperkit.dirq import survey
from piperkit.dirq.survey import Surveyor
from piperkit.message import Failure
from piperkit.queue import Depth


def depths(found: object) -> dict[tuple[str, str], tuple[int | None, float | None]]:
    return {(each.queue, each.part): (each.messages, each.oldest) for each in found.depths}  # type: ignore[attr-defined]


def test_survey_counts_each_part_and_dates_its_oldest_message(make_queue: MakeQueue, clock: Clock) -> None:
    before = int(make_queue("out").enqueue("on its way").split(".")[0])
    queue = make_queue(next_queue=make_queue("out").path)
    arrived = {}
    for number in range(6):
        arrived[number] = int(queue.enqueue(str(number)).split(".")[0])
        clock.forward(100)
    first, second, third, _ = queue.claim(4)
    queue.retry(first.id, 1000, Failure("later"))
    queue.banish(second.id, Failure("never"))
    queue.commit(third.id)
    found = depths(queue.survey())
    shown = {place: (number, oldest and int(oldest)) for place, (number, oldest) in found.items()}
    assert shown == {
        ("input", "tmp"): (0, None),
        ("input", "incoming"): (2, arrived[4]),
        ("input", "pending"): (1, arrived[3]),
        ("input", "deferred"): (1, arrived[0]),
        ("input", "outgoing"): (0, None),
        ("input", "hold"): (0, None),
        ("input", "errors"): (1, arrived[1]),
        ("output", "incoming"): (2, before),
    }


def test_age_of_our_messages_is_read_from_their_names_without_a_look_at_them(make_queue: MakeQueue) -> None:
    queue = make_queue()
    id = queue.enqueue("x")
    os.utime(Path(queue.path, "incoming", id), (1.0, 1.0))
    _, oldest = depths(queue.survey())["input", "incoming"]
    assert oldest == pytest.approx(float(".".join(id.split(".")[:2])), abs=1e-3)


def test_of_foreign_messages_only_some_are_looked_at(make_queue: MakeQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survey, "FOREIGN_MAX", 3)
    queue = make_queue()
    incoming = Path(queue.path, "incoming")
    for number in range(5):
        (incoming / f"m{number}").touch()
        os.utime(incoming / f"m{number}", (0, 1000 - number))
    (incoming / ".hidden").touch()
    assert depths(queue.survey())["input", "incoming"] == (5, 998.0)


def test_what_cannot_be_counted_is_said_and_the_rest_is_counted(make_queue: MakeQueue) -> None:
    queue = make_queue(next_queue=make_queue("out").path)
    queue.enqueue("x")
    for part in ("in/errors", "in/deferred", "out/incoming"):
        shutil.rmtree(Path(queue.path).parent / part)
    found = depths(queue.survey())
    assert found["input", "incoming"][0] == 1
    assert found["input", "deferred"] == (0, None)  # an addition of ours, which a queue may lack
    assert found["input", "errors"] == found["output", "incoming"] == (None, None)


def test_listing_that_took_long_is_used_again_for_longer(make_queue: MakeQueue) -> None:
    queue = make_queue()
    # Of two readings around each of the six listings, every second one is two seconds later: each takes two seconds.
    now = 0.0
    readings = 0

    def monotonic() -> float:
        nonlocal now, readings
        readings += 1
        now += 2.0 if readings % 2 == 0 and readings <= 12 else 0.0
        return now

    surveyor = Surveyor(queue.path, None, monotonic)
    assert depths(surveyor.survey())["input", "incoming"][0] == 0
    queue.enqueue("x")
    assert depths(surveyor.survey())["input", "incoming"][0] == 0
    now += survey.REUSE * 2.0
    assert depths(surveyor.survey())["input", "incoming"][0] == 1


def test_survey_tells_how_much_room_the_file_systems_have(make_queue: MakeQueue) -> None:
    queue = make_queue(next_queue=make_queue("out").path)
    spaces = queue.survey().spaces
    assert [space.queue for space in spaces] == ["input", "output"]
    assert all(0 < space.available <= space.size for space in spaces)
    assert Depth("input", "tmp", 0, None) in queue.survey().depths
