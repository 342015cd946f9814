"""Where each message goes. This file is yours: an update of the template does not touch it."""

from piperkit import Component, Message, Option, Outcome, Reject


class Mydaemon(Component):
    """Does one thing."""

    route_by = Option(str, "type", help="member of a message that says where it goes")
    routes = Option(
        dict[str, str], {}, help="queues, each by what that member holds; the rest goes to the output queue"
    )

    def process(self, message: Message) -> Outcome:
        """Send the message to its queue, which the daemon that reads it has made; until it is there, this one waits."""
        record = message.json_object
        if self.route_by not in record:
            raise Reject(f"it has no {self.route_by}")  # to errors/, with this reason beside it
        name = record[self.route_by]
        queue = self.routes.get(name) if isinstance(name, str) else None
        return message.commit() if queue is None else message.dispatch(queue)
