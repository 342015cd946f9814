"""Daemons for the crash walk; among the sinks one that commits after its own write is done, and one before it."""

from __future__ import annotations

from piperkit import Component, Message, Outcome, PiperDaemon, Reject


class Careful(Component):
    """Writes, then commits."""

    def process(self, message: Message) -> Outcome:
        with open("archive", "ab") as file:
            file.write(message.data + b"\n")
        return message.cancel()


class Early(Component):
    """Commits, and writes what it has collected when there are two."""

    def setup(self, daemon: PiperDaemon) -> None:
        self.collected: list[bytes] = []

    def process(self, message: Message) -> Outcome:
        self.collected.append(message.data)
        if len(self.collected) == 2:
            self.teardown()
        return message.cancel()

    def teardown(self, daemon: PiperDaemon | None = None) -> None:
        with open("archive", "ab") as file:
            file.writelines(each + b"\n" for each in self.collected)
        self.collected.clear()


def careful(argv: list[str]) -> PiperDaemon:
    return PiperDaemon(name="careful", argv=argv, components=[Careful()])


def early(argv: list[str]) -> PiperDaemon:
    return PiperDaemon(name="early", argv=argv, components=[Early()])


class Mixed(Component):
    """Does what the message says."""

    def process(self, message: Message) -> Outcome:
        if message.text == "reject":
            raise Reject("as it says")
        return message.commit("changed" if message.text == "change" else None)


def mixed(argv: list[str]) -> PiperDaemon:
    return PiperDaemon(name="mixed", argv=argv, components=[Mixed()])


class Lazy(Component):
    """Leaves what it writes to the end of the program, when files are flushed."""

    def setup(self, daemon: PiperDaemon) -> None:
        self.file = open("archive", "ab")  # noqa: SIM115 - as somebody might who forgets it

    def process(self, message: Message) -> Outcome:
        self.file.write(message.data + b"\n")
        return message.cancel()


def lazy(argv: list[str]) -> PiperDaemon:
    return PiperDaemon(name="lazy", argv=argv, components=[Lazy()])
