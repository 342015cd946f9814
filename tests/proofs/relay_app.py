"""A daemon for the proofs of the database engine: it passes messages on, changes some, copies some, fails at some."""

from __future__ import annotations

import sys

from piperkit import Component, Message, Outcome, PiperDaemon, Retry


class Relay(Component):
    def process(self, message: Message) -> Outcome:
        number = int(message.text.split()[0])
        if number % 97 == 0 and message.attempt == 1:
            raise Retry("once more", 0.2)
        if number % 13 == 0:
            return message.commit(f"{number} changed")
        if number % 101 == 0:
            return message.commit().duplicate("copies")
        return message.commit()


if __name__ == "__main__":
    name, *argv = sys.argv[1:]
    PiperDaemon(name=name, argv=argv, components=[Relay()]).run()
