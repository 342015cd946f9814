"""The table of what can be done to a claimed message: the event that asks for it, how it is counted, what is done."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from piperkit.filer import names
from piperkit.message import Action, Failure, Outcome
from piperkit.queue import Queue

#: What an event says of the message, beside its id.
Args = Mapping[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Operation:
    """One of them."""

    event: str
    counter: str
    #: Given the queue, the message's id, the event's arguments, and the path of the queue {queue_tgt}, if it has one.
    do: Callable[[Queue, str, Args, str], None]
    settles: bool = True  #: the claim ends with it
    names_target: bool = False  #: {queue_tgt} is another queue


UPDATE = Operation(
    names.MESSAGE_UPDATE, names.UPDATED, lambda queue, id, args, _: queue.update(id, args["data"]), settles=False
)
COMMIT = Operation(
    names.MESSAGE_COMMIT, names.COMMITTED, lambda queue, id, args, _: queue.commit(id, args.get("content"))
)
CANCEL = Operation(names.MESSAGE_CANCEL, names.CANCELED, lambda queue, id, args, _: queue.cancel(id))
BANISH = Operation(names.MESSAGE_BANISH, names.BANISHED, lambda queue, id, args, _: queue.banish(id, _failure(args)))
RETRY = Operation(
    names.MESSAGE_RETRY, names.RETRIED, lambda queue, id, args, _: queue.retry(id, _delay(args), _failure(args))
)
#: Ours: what the message needs is not there; no attempt is counted.
POSTPONE = Operation(
    names.MESSAGE_POSTPONE,
    names.POSTPONED,
    lambda queue, id, args, _: queue.postpone(id, _delay(args), _failure(args)),
)
DISPATCH = Operation(
    names.MESSAGE_DISPATCH,
    names.DISPATCHED,
    lambda queue, id, args, target: queue.dispatch(id, target, args.get("content")),
    names_target=True,
)
DUPLICATE = Operation(
    names.MESSAGE_DUPLICATE,
    names.DUPLICATED,
    lambda queue, id, args, target: queue.duplicate(id, target),
    settles=False,
    names_target=True,
)

OPERATIONS = (UPDATE, COMMIT, CANCEL, BANISH, RETRY, POSTPONE, DISPATCH, DUPLICATE)
_BY_ACTION = {Action.COMMIT: COMMIT, Action.CANCEL: CANCEL, Action.DISPATCH: DISPATCH}


def steps(id: str, outcome: Outcome) -> list[tuple[Operation, dict[str, Any]]]:
    """What an outcome asks for, in order: the copies first."""
    found: list[tuple[Operation, dict[str, Any]]] = [(DUPLICATE, {"id": id, "queue_tgt": to}) for to in outcome.copies]
    args: dict[str, Any] = {"id": id}
    if outcome.target is not None:
        args["queue_tgt"] = outcome.target
    if outcome.content is not None:
        # The queue writes and moves it in one step, so that a crash in between cannot make a component see its own
        # output, as it could after a `message_update`.
        args["content"] = outcome.content
    found.append((_BY_ACTION[outcome.action], args))
    return found


def _delay(args: Args) -> float:
    delay = args["delay"]
    if isinstance(delay, bool) or not isinstance(delay, int | float) or not delay >= 0:
        raise ValueError(f"delay is {delay!r}; it must be a number of seconds, 0 or more")
    return delay


def _failure(args: Args) -> Failure:
    """What the sender of an event says about why; the contract's components say nothing, or a reason."""
    failure = args.get("failure")
    if isinstance(failure, Failure):
        return failure
    return Failure(str(args.get("reason") or "banished by a component that gave no reason"))
