"""What is added to each message. This file is yours: an update of the template does not touch it."""

from typing import Any

from piperkit import Component, Message, Option, Outcome, PiperDaemon, Reject


class Mydaemon(Component):
    """Does one thing."""

    options = (
        Option("look_up", str, "host", "member of a message by which the facts are found"),
        Option("facts", dict, {}, "what is added to a message, by what that member holds"),
    )

    def setup(self, daemon: PiperDaemon) -> None:
        self.look_up: str = daemon.c("look_up")
        self.facts: dict[str, dict[str, Any]] = daemon.c("facts")

    def reload(self, daemon: PiperDaemon) -> None:
        self.setup(daemon)

    def process(self, message: Message) -> Outcome:
        """Add the facts; what the message says itself stands. Doing it twice changes nothing."""
        if not isinstance(message.json, dict):
            raise Reject("not a JSON object")  # to errors/, with this reason beside it
        facts = self.facts.get(str(message.json.get(self.look_up)), {})
        return message.commit({**facts, **message.json})
