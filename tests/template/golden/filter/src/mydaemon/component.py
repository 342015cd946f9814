"""Which messages are passed on. This file is yours: an update of the template does not touch it."""

import re

from piperkit import Component, ConfigError, Message, Option, Outcome, PiperDaemon


class Mydaemon(Component):
    """Does one thing."""

    pattern = Option(str, ".", help="regular expression; a message in which it is found is passed on")

    def setup(self, daemon: PiperDaemon) -> None:
        try:
            self.found = re.compile(self.pattern).search
        except re.error as error:
            raise ConfigError(f"pattern is no regular expression: {error}") from None

    def reload(self, daemon: PiperDaemon) -> None:
        self.setup(daemon)

    def process(self, message: Message) -> Outcome:
        """Pass the message on or drop it."""
        return message.commit() if self.found(message.text) else message.cancel()
