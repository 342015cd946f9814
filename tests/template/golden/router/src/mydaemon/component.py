"""Where each message goes. This file is yours: an update of the template does not touch it."""

from piperkit import Component, ConfigError, Message, Option, Outcome, PiperDaemon, Reject


class Mydaemon(Component):
    """Does one thing."""

    route_by = Option(str, "type", help="member of a message that says where it goes")
    routes = Option(
        dict[str, str], {}, help="queues, each by what that member holds; the rest goes to the output queue"
    )

    def setup(self, daemon: PiperDaemon) -> None:
        own = daemon.queue_path(daemon.c("queue_in_dir"))
        for name, queue in self.routes.items():
            if daemon.queue_path(queue) == own:
                raise ConfigError(f"routes: {name!r} leads back to {own}, where the messages come from")
        self.queues = dict(self.routes)

    def reload(self, daemon: PiperDaemon) -> None:
        self.setup(daemon)

    def process(self, message: Message) -> Outcome:
        """Send the message to its queue, which the daemon that reads it has made; until it is there, this one waits."""
        record = message.json_object
        if self.route_by not in record:
            raise Reject(f"it has no {self.route_by}")  # to errors/, with this reason beside it
        name = record[self.route_by]
        queue = self.queues.get(name) if isinstance(name, str) else None
        return message.commit() if queue is None else message.dispatch(queue)
