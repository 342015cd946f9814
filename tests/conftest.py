"""What all tests share: waiting for a state, and the proofs' summary at the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

import summary


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What the proofs have found out, a line each."""
    if summary.lines:
        terminalreporter.section("proofs")
        for line in summary.lines:
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def until() -> Iterator[Callable[..., None]]:
    """Wait for a state to be reached; how long that takes is no matter, up to a limit far beyond what it should."""

    def wait(reached: Callable[[], object], what: str = "the state", seconds: float = 60.0) -> None:
        deadline = time.monotonic() + seconds
        while not reached():
            if time.monotonic() > deadline:
                pytest.fail(f"waited {seconds:g} s in vain for {what}")
            time.sleep(0.01)

    return wait
