"""What becomes of each message. This file is yours: an update of the template does not touch it."""

from piperkit import Component, Message, Outcome, Reject


class Mydaemon(Component):
    """Does one thing."""

    def process(self, message: Message) -> Outcome:
        """Pass the object on as it came. After a crash, the same message may come a second time."""
        if not isinstance(message.json, dict):
            raise Reject("not a JSON object")  # to errors/, with this reason beside it
        return message.commit(message.json)
