"""What is refused: each line has a mistake, and a checker that does not see it complains of the needless comment."""

from __future__ import annotations

from piperkit import Component, Message, NotThere, Option, Outcome  # type: ignore[attr-defined]  # pyright: ignore  # noqa: F401


class Wrong(Component):
    unset = Option(str, None, help="none by default")
    unexplained = Option(int, 1)  # type: ignore[call-overload]  # pyright: ignore
    unknown = Option(int, 1, help="a number", colour="blue")  # type: ignore[call-overload]  # pyright: ignore

    def process(self, message: Message) -> Outcome:
        self.unset.upper()  # type: ignore[union-attr]  # pyright: ignore
        message.id = "another"  # type: ignore[misc]  # pyright: ignore
        message.dispatch(None)  # type: ignore[arg-type]  # pyright: ignore
        message.commit(5)  # type: ignore[arg-type]  # pyright: ignore
        return None  # type: ignore[return-value]  # pyright: ignore


class Assigns(Component):
    limit = Option(int, 1, help="a number")

    def setup(self, daemon: object) -> None:
        self.limit = 5  # type: ignore[assignment]
