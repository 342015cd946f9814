"""The demonstration's second component: it counts messages, and is the last that sees them."""

import collections
from typing import TextIO

from piperkit import Component, Message, Option, Outcome, PiperDaemon, Reject


class LogSink(Component):
    """Counts messages by their word, and writes down the id of each, so that anybody can check the count."""

    ledger = Option(
        str, "{var}/ledger", kind="path", help="file that gets a line for each message: its id and its word"
    )

    def setup(self, daemon: PiperDaemon) -> None:
        self.counts: collections.Counter[str] = collections.Counter()
        self.lines: TextIO = open(self.ledger, "a", encoding="utf-8")  # noqa: SIM115 (closed in teardown)

    def process(self, message: Message) -> Outcome:
        try:
            word = message.json["word"]
        except (KeyError, TypeError):
            raise Reject("not what log-parser writes") from None
        self.counts[word] += 1
        self.lines.write(f"{message.id} {word}\n")
        self.lines.flush()
        return message.commit()

    def teardown(self, daemon: PiperDaemon) -> None:
        self.lines.close()
        daemon.logger.info("Counted %d messages: %s", self.counts.total(), dict(self.counts.most_common(10)))
