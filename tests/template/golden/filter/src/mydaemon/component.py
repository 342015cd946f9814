"""Which messages are passed on. This file is yours: an update of the template does not touch it."""

import re

from piperkit import Component, ConfigError, Message, Option, Outcome, PiperDaemon, Reject, time_limit


class Mydaemon(Component):
    """Does one thing."""

    pattern = Option(str, ".", help="regular expression; a message in which it is found is passed on")
    pattern_time = Option(float, 1.0, help="longest time to look for it in a message", unit="seconds", minimum=0.001)

    def setup(self, daemon: PiperDaemon) -> None:
        try:
            self.found = re.compile(self.pattern).search
        except re.error as error:
            raise ConfigError(f"pattern is not a regular expression: {error}") from None

    def reload(self, daemon: PiperDaemon) -> None:
        self.setup(daemon)

    def process(self, message: Message) -> Outcome:
        """Pass the message on or drop it."""
        try:
            with time_limit(self.pattern_time):
                found = self.found(message.text)
        except TimeoutError:
            raise Reject(f"to look for the pattern took longer than {self.pattern_time:g} s") from None
        return message.commit() if found else message.cancel()
