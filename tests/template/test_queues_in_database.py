"""A project whose queues are in a database, by its answer: the daemon works there, and its tests do not."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from piperkit import engines
from piperkit.postgres.database_queue import DatabaseQueue
from template_project import Generate


@pytest.mark.slow
def test_daemon_of_a_project_works_in_the_database_that_was_named(
    generate: Generate, database: str, tmp_path: Path, until: Callable[..., None]
) -> None:
    project = generate(database=database, kind="transform")
    assert "piperkit[postgres]" in tomllib.loads((project / "pyproject.toml").read_text())["project"]["dependencies"]
    unit = (project / "systemd/mydaemon.service").read_text()
    assert "\nRestrictAddressFamilies=AF_UNIX AF_INET AF_INET6\n" in unit
    assert "\nPrivateNetwork=yes" not in unit
    address = f"{database}&queue=mydaemon"
    engines.create(address)
    with DatabaseQueue(address) as queue:
        queue.enqueue("hello")
    environment = {**os.environ, "PYTHONPATH": str(project / "src")}
    configured = ["--config-file", str(project / "etc/mydaemon.conf"), "--files-under", str(tmp_path)]
    command = [sys.executable, "-m", "mydaemon", *configured]
    checked = subprocess.run([*command, "--action=config-check"], env=environment, capture_output=True, check=False)
    assert checked.returncode == 0, checked.stderr
    tested = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"]
    done = subprocess.run(tested, cwd=project, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    view = engines.view(address)
    assert view.counts()["incoming"] == 1, "its tests have left the database alone"
    with subprocess.Popen([*command, "--no-daemon", "--quiet"], env=environment) as daemon:
        until(lambda: not any(view.counts().values()), "the message to be processed")
        daemon.terminate()
    assert daemon.returncode == 0


@pytest.mark.parametrize(
    "answer",
    [
        "db1",
        "mysql://db1/spool",
        "postgresql://db1/spool?queue=in",
        "postgresql://me:secret@db1/spool",
        "postgresql://db1/spool?password=x",
        'postgresql://db1/"spool',
        "postgresql://db1/spool x",
    ],
)
def test_what_is_no_database_is_refused(generate: Generate, answer: str) -> None:
    with pytest.raises(ValueError, match="database"):
        generate(database=answer)


def test_directories_are_the_default(generate: Generate) -> None:
    project = generate()
    assert '# "queue_in_dir": "mydaemon"' in (project / "etc/mydaemon.conf").read_text()
