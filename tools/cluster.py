"""`make cluster`: a trial of queues in a database, on this machine: a PostgreSQL server of its own, with a standby that
has what it has; two daemons with three instances each, as if on several machines; messages; and the server that dies.

Everything is in a directory that is removed at the end. Exit status 0: every message came out, once.
"""

from __future__ import annotations

import collections
import contextlib
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from piperkit import engines
from piperkit.errors import PiperError
from piperkit.postgres.database_queue import DatabaseQueue

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "tests"))
import postgresql  # noqa: E402

APP = ROOT / "tests" / "proofs" / "relay_app.py"
STAGES = {"first": ("in", "middle"), "second": ("middle", "out")}
MESSAGES, INSTANCES = 60_000, 3


def main() -> int:
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="piper-cluster-")))
        print("a server, and a standby that follows it")
        primary = stack.enter_context(postgresql.Server())
        standby = stack.enter_context(postgresql.Server(primary))
        postgresql.have_followed(primary)
        database = f"postgresql:///postgres?host={primary.directory},{standby.directory}&user=postgres"
        queues = {name: f"{database}&queue={name}" for name in ("in", "middle", "out", "copies")}
        for address in queues.values():
            engines.create(address)
        for stage, (source, target) in STAGES.items():
            options = ["--no-daemon", "--paralel", "--quiet", "--queue-out-limit=0", "--history=off",
                       "--queue-in-wait=0.5", "--queue-out-wait=0.5", "--log-level=warning",
                       f"--files-under={directory}", f"--queue-in-dir={queues[source]}",
                       f"--queue-out-dir={target}"]  # fmt: skip
            for _ in range(INSTANCES):
                stack.callback(subprocess.Popen([sys.executable, str(APP), stage, *options]).kill)
        print(f"two daemons with {INSTANCES} instances each; {MESSAGES} messages\n")
        with DatabaseQueue(queues["in"]) as producer:
            producer.enqueue_many(f"{number} message" for number in range(MESSAGES))
        died = False
        while True:
            try:
                out = engines.view(queues["out"]).counts(["incoming"])["incoming"]
            except PiperError as error:
                print(error)
                time.sleep(0.5)
                continue
            subprocess.run([sys.executable, "-m", "piperkit.cli", "find", "--spool", database], check=False)
            print()
            if out >= MESSAGES:
                break
            if out > MESSAGES // 3 and not died:
                print("the server dies, and the standby takes over\n")
                primary.stop("immediate")
                standby.promote()
                died = True
            time.sleep(0.5)
        view = engines.view(queues["out"])
        found = collections.Counter(int(view.read(entry).split()[0]) for entry in view.each("incoming"))
        lost, doubled = MESSAGES - len(found), sum(times - 1 for times in found.values())
        print(f"{MESSAGES} messages: {lost} lost, {doubled} doubled")
        return int(bool(lost or doubled))


if __name__ == "__main__":
    sys.exit(main())
