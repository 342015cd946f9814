"""What is added to each message. This file is yours: an update of the template does not touch it."""

from typing import Any

from piperkit import Component, Message, Option, Outcome


class Mydaemon(Component):
    """Does one thing."""

    look_up = Option(str, "host", help="member of a message by which the facts are found")
    facts = Option(dict[str, dict[str, Any]], {}, help="what is added to a message, by what that member holds")

    def process(self, message: Message) -> Outcome:
        """Add the facts; what the message says itself stands. Doing it twice changes nothing."""
        record = message.json_object  # what is none goes to errors/, with the reason beside it
        name = record.get(self.look_up)
        facts = self.facts.get(name, {}) if isinstance(name, str) else {}
        return message.commit({**facts, **record})
