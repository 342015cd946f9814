"""What a test needs and not every machine has."""

from __future__ import annotations

import os

import pytest


def need(name: str, available: bool, what: str) -> None:
    """Skip the test with one line that says what is missing; fail it where PIPER_REQUIRE names `name`."""
    if not available:
        required = {word.strip() for word in os.environ.get("PIPER_REQUIRE", "").split(",")}
        (pytest.fail if name in required else pytest.skip)(f"{name}: needs {what}")
