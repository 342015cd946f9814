"""What becomes of each message. This file is yours: an update of the template does not touch it."""

from piperkit import Component, Message, Outcome


class Mydaemon(Component):
    """Does one thing."""

    def process(self, message: Message) -> Outcome:
        """Pass the object on as it came. After a crash, the same message may come a second time."""
        record = message.json_object  # what is none goes to errors/, with the reason beside it
        return message.commit(record)
