"""Where each message goes. This file is yours: an update of the template does not touch it."""

from piperkit import Component, Message, Option, Outcome, PiperDaemon, Reject


class Mydaemon(Component):
    """Does one thing."""

    options = (
        Option("route_by", str, "type", "member of a message that says where it goes"),
        Option("routes", dict, {}, "queues, each by what that member holds; the rest goes to the output queue"),
    )

    def setup(self, daemon: PiperDaemon) -> None:
        self.route_by: str = daemon.c("route_by")
        self.routes: dict[str, str] = daemon.c("routes")

    def reload(self, daemon: PiperDaemon) -> None:
        self.setup(daemon)

    def process(self, message: Message) -> Outcome:
        """Send the message to its queue, which the daemon that reads it has made; until it is there, this one waits."""
        if not isinstance(message.json, dict) or self.route_by not in message.json:
            raise Reject(f"it has no {self.route_by}")  # to errors/, with this reason beside it
        queue = self.routes.get(str(message.json[self.route_by]))
        return message.commit() if queue is None else message.dispatch(queue)
