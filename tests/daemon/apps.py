"""Small daemons for the tests; as a program: `python apps.py NAME [OPTION]...`."""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, ClassVar

from pyzenkit.zendaemon import ZenDaemonComponent

from piperkit import BatchComponent, Component, Message, Option, Outcome, PiperDaemon, Reject, Retry
from piperkit.filer import FilerDaemonComponent
from sources import Datagrams, Lines


class Upper(Component):
    """Does what the message says, or turns it into upper case."""

    def process(self, message: Message) -> Outcome | None:
        match message.text.partition(" "):
            case "reject", _, reason:
                raise Reject(reason)
            case "retry", _, delay:
                raise Retry("later", float(delay))
            case "raise", _, text:
                raise RuntimeError(text)
            case "exit", _, _:
                sys.exit(3)
            case "none", _, _:
                return None
            case "nonsense", _, _:
                return "nonsense"  # type: ignore[return-value]
            case "cancel", _, _:
                return message.cancel()
            case "dispatch", _, queue:
                return message.dispatch(queue)
            case "copy", _, queue:
                return message.commit("copied").duplicate(queue)
            case "kill", _, _:
                os.kill(os.getpid(), 9)
        return message.commit(message.text.upper())


class Echo(Component):
    """Passes every message on as it came."""

    def process(self, message: Message) -> Outcome:
        return message.commit()


class Slow(Component):
    """Begins a message, says so in a file, and finishes it when the file `go` is there."""

    options: ClassVar = (Option("gate", str, ".", "directory of the files begun and go"),)

    def setup(self, daemon: PiperDaemon) -> None:
        self.gate = daemon.c("gate")

    def process(self, message: Message) -> Outcome:
        with open(os.path.join(self.gate, "begun"), "a", encoding="utf-8") as file:
            file.write(message.text + "\n")
        while not os.path.exists(os.path.join(self.gate, "go")):
            time.sleep(0.01)
        return message.commit()


class Stuck(Echo):
    """Does not come to an end in the hook that it is told to hang in."""

    options: ClassVar = (Option("hang", str, "setup", "the hook", choices=("setup", "teardown")),)

    def setup(self, daemon: PiperDaemon) -> None:
        self._hang(daemon, "setup")

    def teardown(self, daemon: PiperDaemon) -> None:
        self._hang(daemon, "teardown")

    def _hang(self, daemon: PiperDaemon, hook: str) -> None:
        if daemon.c("hang") == hook:
            daemon.logger.info("It hangs")
            while True:
                time.sleep(0.01)


class Stubborn(Component):
    """Defends itself against its end in the way that the message names."""

    def process(self, message: Message) -> Outcome:
        match message.text:
            case "alarms":
                signal.signal(signal.SIGALRM, signal.SIG_IGN)
                work: Callable[[], object] = lambda: signal.alarm(0)  # noqa: E731
            case "signals":
                for number in (signal.SIGTERM, signal.SIGINT):
                    signal.signal(number, lambda *_: None)
                work = lambda: time.sleep(0.01)  # noqa: E731
            case "wakeup":
                signal.set_wakeup_fd(-1)
                work = lambda: time.sleep(0.01)  # noqa: E731
            case "catches":
                os.close(2)
                work = lambda: time.sleep(0.01)  # noqa: E731
            case "blocks":
                # As libraries in C do: without the lock of the interpreter, and going on after a signal.
                work = lambda: ctypes.CDLL(None).sleep(3600)  # noqa: E731
            case "thread":
                threading.Thread(target=time.sleep, args=(3600,), name="sleeper").start()
                return message.commit()
            case other:
                raise Reject(other)
        with open("begun", "a", encoding="utf-8") as file:
            file.write(message.text + "\n")
        while True:
            try:
                work()
            except BaseException:
                pass


class Collect(BatchComponent):
    """Passes messages on, several at a time."""

    def process_batch(self, messages: Any) -> None:
        return None


class TryableCollect(Collect):
    """Says that it can be tried."""

    trial = True


class WhoAmI(Component):
    """Rejects every message with the account that it runs as."""

    def process(self, message: Message) -> Outcome:
        raise Reject(f"uid {os.getuid()}")


class Fork(Component):
    """Forks a child that does what the message says; the message is committed with the child's pid."""

    def process(self, message: Message) -> Outcome:
        child = os.fork()
        if not child:
            match message.text:
                case "wait":
                    signal.pause()
                case "exit":
                    sys.exit(3)
                case "raise":
                    raise RuntimeError("in the child")
                case "tell":
                    handlers = [signal.getsignal(number) for number in range(1, signal.NSIG)]
                    ours = [repr(handler) for handler in handlers if callable(handler)]
                    files = [os.readlink(link) for fd in range(100) if os.path.lexists(link := f"/proc/self/fd/{fd}")]
                    with open("child", "w", encoding="utf-8") as file:
                        json.dump({"handlers": ours, "wakeup_fd": signal.set_wakeup_fd(-1), "files": files}, file)
                    os._exit(0)
        elif message.text != "wait":
            os.waitpid(child, 0)
        return message.commit(str(child))


class Faults(Component):
    """Says how many pages of memory its process has been given so far."""

    def process(self, message: Message) -> Outcome:
        assert message.text.isalnum()
        return message.commit(str(resource.getrusage(resource.RUSAGE_SELF).ru_minflt))


class OldUpper(ZenDaemonComponent):
    """As components for the original are written: events and callbacks."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.event_map = kwargs.get("event_map", {"message_process": "message_process"})

    def get_events(self) -> list[dict[str, Any]]:
        return [
            {
                "event": self.event_map["message_process"],
                "callback": self.cbk_event_message_process,
                "prepend": False,
            },
            {"event": "message_update", "callback": self.cbk_event_message_update, "prepend": True},
            {"event": "log_statistics", "callback": self.cbk_event_log_statistics, "prepend": False},
        ]

    def cbk_event_message_process(self, daemon: Any, args: Any) -> Any:
        args["parsed"] = args["data"].upper()
        daemon.queue.schedule("message_update", args)
        daemon.queue.schedule("message_commit", args)
        self.inc_statistic("cnt_done")
        return (daemon.FLAG_CONTINUE, args)

    def cbk_event_message_update(self, daemon: Any, args: Any) -> Any:
        args["data"] = args["parsed"]
        return (daemon.FLAG_CONTINUE, args)

    def cbk_event_log_statistics(self, daemon: Any, args: Any) -> Any:
        daemon.logger.info("Done: %s", self.get_statistics())
        return (daemon.FLAG_CONTINUE, args)


class OldBanish(ZenDaemonComponent):
    """Banishes every message, by a bare id or with a reason."""

    def get_events(self) -> list[dict[str, Any]]:
        return [{"event": "message_process", "callback": self.process, "prepend": False}]

    def process(self, daemon: Any, args: Any) -> Any:
        given = args["id"] if args["data"] == "bare" else {"id": args["id"], "reason": f"I dislike {args['data']}"}
        daemon.queue.schedule("message_banish", given)
        return (daemon.FLAG_CONTINUE, None)


MAPPED = {"message_process": "work", "message_commit": "done", "message_next": "more", "queue_check": "look"}


class Mapped(ZenDaemonComponent):
    """Speaks of `work` and `done` instead of `message_process` and `message_commit`."""

    def get_events(self) -> list[dict[str, Any]]:
        return [{"event": "work", "callback": self.work, "prepend": False}]

    def work(self, daemon: Any, args: Any) -> Any:
        daemon.queue.schedule("done", args)
        return (daemon.FLAG_CONTINUE, None)


COMPONENTS: dict[str, Any] = {
    "datagrams": lambda: [Datagrams()],
    "lines": lambda: [Lines()],
    "upper": lambda: [Upper()],
    "collect": lambda: [Collect()],
    "collect-tryable": lambda: [TryableCollect()],
    "whoami": lambda: [WhoAmI()],
    "echo": lambda: [Echo()],
    "faults": lambda: [Faults()],
    "fork": lambda: [Fork()],
    "slow": lambda: [Slow()],
    "stubborn": lambda: [Stubborn()],
    "stuck": lambda: [Stuck()],
    "old": lambda: [OldUpper()],
    "old-banish": lambda: [OldBanish()],
    "mapped": lambda: [FilerDaemonComponent(event_map=MAPPED), Mapped()],
}


def build(name: str, argv: list[str] | None = None, **more: Any) -> PiperDaemon:
    """The daemon of that name."""
    return PiperDaemon(name=name, description="A daemon of the tests", argv=argv, components=COMPONENTS[name](), **more)


if __name__ == "__main__":
    # Constants that take another value, by their names; a test does not wait for what takes its time.
    for name, value in json.loads(os.environ.get("APPS_CONSTANTS", "{}")).items():
        module, _, constant = name.rpartition(".")
        setattr(importlib.import_module(module), constant, value)
    build(sys.argv[1], sys.argv[2:]).run()
