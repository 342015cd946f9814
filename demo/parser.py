"""The demonstration's first component: a line of a log becomes a JSON object."""

import re

from piperkit import Component, Message, Outcome

#: A time as dpkg, syslog or a daemon of ours writes it, the first word after it, and the rest.
LINE = re.compile(r"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d\S*|\w{3} [ \d]\d \d\d:\d\d:\d\d)?\s*(\S*)\s*(.*)", re.DOTALL)


class LogParser(Component):
    """Turns a line of a log into its parts. Any bytes are a line, so nothing is ever rejected."""

    def process(self, message: Message) -> Outcome:
        parts = LINE.match(message.data.decode(errors="replace"))
        assert parts is not None, "every part may be empty"
        time, word, rest = parts.groups()
        return message.commit({"time": time, "word": word, "rest": rest})
