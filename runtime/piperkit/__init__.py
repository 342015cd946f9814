"""piperkit: daemons that take messages from a queue, do one thing, and pass them on."""

from piperkit.errors import PiperError
from piperkit.message import Failure, Format, Message, Outcome, Reject, Retry

__all__ = ["Failure", "Format", "Message", "Outcome", "PiperError", "Reject", "Retry"]
