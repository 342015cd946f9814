"""What becomes of each message. This file is yours: an update of the template does not touch it."""

from piperkit import Component, Message, Outcome


class Third(Component):
    """Does one thing."""

    def process(self, message: Message) -> Outcome:
        """Pass the text on as it came. After a crash, the same message may come a second time."""
        return message.commit(message.text)
