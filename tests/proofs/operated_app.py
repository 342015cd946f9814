"""A daemon for test_operators: it fails at some messages until the file `up` is there, and passes on the others."""

from __future__ import annotations

import sys
from pathlib import Path

from piperkit import Component, Message, Outcome, PiperDaemon, Reject, Retry


class Operated(Component):
    """Fails at every seventh and eleventh message while its host is down."""

    def __init__(self, up: Path) -> None:
        super().__init__()
        self._up = up

    def process(self, message: Message) -> Outcome:
        facts = message.json_object
        if facts["n"] % 7 == 0 and not self._up.exists():
            raise Reject(f"db{facts['n'] % 3}: the host is down")
        if facts["n"] % 11 == 0 and not self._up.exists():
            raise Retry("busy", 2.0)
        return message.commit()


def main() -> None:
    name, up, *argv = sys.argv[1:]
    PiperDaemon(name=name, argv=argv, components=[Operated(Path(up))]).run()


if __name__ == "__main__":
    main()
