"""What is made of each line. This file is yours: an update of the template does not touch it."""

import re

from piperkit import Component, ConfigError, Message, Option, Outcome, PiperDaemon, Reject, time_limit


class Mydaemon(Component):
    """Does one thing."""

    pattern = Option(
        str,
        r"(?P<type>\w*)\W*(?P<text>.*)",
        help="regular expression for all of a message; its named groups become the members of an object",
    )
    pattern_time = Option(float, 1.0, help="longest time to match a message", unit="seconds", minimum=0.001)

    def setup(self, daemon: PiperDaemon) -> None:
        try:
            compiled = re.compile(self.pattern, re.DOTALL)
        except re.error as error:
            raise ConfigError(f"pattern is not a regular expression: {error}") from None
        if not compiled.groupindex:
            raise ConfigError("pattern has no named groups, such as (?P<text>.*)")
        self.match = compiled.fullmatch

    def reload(self, daemon: PiperDaemon) -> None:
        self.setup(daemon)

    def process(self, message: Message) -> Outcome:
        """Make an object of the text. A group that took no part in the match is left out."""
        try:
            with time_limit(self.pattern_time):
                found = self.match(message.text.rstrip("\n"))
        except TimeoutError:
            raise Reject(f"to match it took longer than {self.pattern_time:g} s") from None
        if found is None:
            raise Reject("the pattern does not match")
        return message.commit({name: text for name, text in found.groupdict().items() if text is not None})
