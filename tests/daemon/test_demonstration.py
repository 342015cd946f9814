"""The contract's demonstration: `python -m piperkit.demo`."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from piperkit.dirq import DirectoryQueue

NAME = "demo-piperdaemon.py"


def demonstrate(directory: Path, *options: str) -> list[str]:
    """Run it to its end; what it logs, each line without its time and level."""
    done = subprocess.run(
        [sys.executable, "-m", "piperkit.demo", "--no-daemon", "--queue-out-wait=0.3", *options],
        env={**os.environ, "TMPDIR": str(directory)},
        text=True,
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return [re.sub(r"^\S+ \S+ \w+: ", "", line) for line in done.stderr.splitlines()]


def told(lines: list[str]) -> list[str]:
    """Of that, which messages were printed, when it paused, and how many were taken out of the output queue."""
    what = r'"test([A-F])1": 1|processing (pauses)|(\d messages taken)'
    return ["".join(found) for found in re.findall(what, "\n".join(lines))]


@pytest.mark.slow
def test_two_messages_are_printed_then_it_pauses_and_the_rest_comes_as_room_is_made(tmp_path: Path) -> None:
    lines = demonstrate(tmp_path)
    taken = "2 messages taken"
    # A pause that comes again within a minute is not logged again.
    assert told(lines)[:10] == ["A", "B", "pauses", taken, "C", "D", taken, "E", "F", taken]
    assert lines[-1] == "The daemon has ended, with status 0"
    (run_log,) = (tmp_path / NAME / "run-log" / NAME).iterdir()
    statistics = json.loads(run_log.read_text())["statistics"]
    assert statistics["DemoPrintComponent"] == {"cnt_printed": 6}
    assert statistics["FilerDaemonComponent"]["cnt_enqueued"] == 6
    assert statistics["FilerDaemonComponent"]["cnt_committed"] == 6


@pytest.mark.slow
def test_what_an_interrupted_demonstration_has_left_is_not_in_the_way(tmp_path: Path) -> None:
    for queue in ("queue.done", f"spool/{NAME}"):
        with DirectoryQueue(tmp_path / NAME / queue) as left:
            for number in range(2):
                left.enqueue(f"left {number}")
    assert told(demonstrate(tmp_path))[:3] == ["A", "B", "pauses"]


@pytest.mark.slow
def test_its_own_key_and_the_contracts_are_in_its_configuration(tmp_path: Path) -> None:
    demonstrate(tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "piperkit.demo", "--action=config-view"],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        text=True,
        capture_output=True,
        check=True,
        timeout=60,
    )
    shown = dict(re.findall(r"^(\w+) += (\S+)", done.stdout, re.MULTILINE))
    assert (shown["test_a"], shown["queue_out_limit"], shown["stats_interval"]) == ("1", "2", "20")
