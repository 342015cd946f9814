"""Lines that a test run prints at its end: what was measured and visited."""

from __future__ import annotations

lines: list[str] = []


def add(line: str) -> None:
    lines.append(line)
