"""The daemon: its name, its components, and where its command begins."""

from piperkit import PiperDaemon

from mydaemon.component import Mydaemon


def build(argv: list[str] | None = None) -> PiperDaemon:
    """The daemon, with these command line arguments; None stands for those of the process."""
    return PiperDaemon(
        name="mydaemon",
        template="1.0.0rc1",
        description="Does one thing",
        argv=argv,
        anchor=__file__,
        components=[Mydaemon()],
        default_message_format="bytes",
    )


def main() -> None:
    build().run()
