"""What daemons have written."""

from __future__ import annotations

from piperkit.testing import Piper


def log(piper: Piper) -> str:
    """The daemon's log; nothing where there is none yet."""
    path = piper.directory / "daemon.log"
    return path.read_text() if path.exists() else ""
