"""The crash walk that every generated project has for its own component."""

from __future__ import annotations

import pytest

import summary
import walked
from needs import need
from piperkit import crashwalk
from piperkit.testing import Piper


def archived(piper: Piper) -> list[bytes]:
    path = piper.directory / "archive"
    return path.read_bytes().splitlines() if path.exists() else []


@pytest.mark.slow
def test_daemon_killed_at_every_crash_point_delivers_all_the_same(piper: Piper) -> None:
    need("strace", crashwalk.available(), "strace(1), with the right to trace")
    visited = piper.crash_walk(walked.mixed, "change", "keep", "reject")
    summary.add(f"crash walk of a daemon: {visited} points visited, 0 lost")
    assert visited > 20


@pytest.mark.slow
def test_component_that_commits_after_its_own_write_loses_nothing(piper: Piper) -> None:
    need("strace", crashwalk.available(), "strace(1), with the right to trace")
    assert piper.crash_walk(walked.careful, "a", "b", "c", delivered=archived) > 10


@pytest.mark.slow
def test_component_that_commits_before_its_own_write_is_found_out(piper: Piper) -> None:
    need("strace", crashwalk.available(), "strace(1), with the right to trace")
    with pytest.raises(AssertionError, match="lost after a kill at"):
        piper.crash_walk(walked.early, "a", "b", "c", delivered=archived)


@pytest.mark.slow
def test_component_that_leaves_its_write_to_the_end_of_the_program_is_found_out(piper: Piper) -> None:
    need("strace", crashwalk.available(), "strace(1), with the right to trace")
    with pytest.raises(AssertionError, match="lost after a kill at"):
        piper.crash_walk(walked.lazy, "a", "b", "c", delivered=archived)
