"""docs/tutorial.md, command by command, as a newcomer would type it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from shlex import quote

import pytest

from checkout import ROOT
from installing import with_uv
from needs import need

TUTORIAL = (ROOT / "docs" / "tutorial.md").read_text()
#: Kinds of blocks, and their lines.
BLOCKS = [
    (kind, text.strip().splitlines())
    for kind, text in re.findall(r"^```sh ?(\w*)\n(.*?)^```", TUTORIAL.split("## Under systemd")[0], re.M | re.S)
]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_command_of_the_tutorial_does_what_it_says(
    tmp_path: Path, template: Path, bare_environment: dict[str, str], until: Callable[..., None]
) -> None:
    need("tmux", shutil.which("tmux") is not None, "tmux")
    home = tmp_path / "work"
    home.mkdir()
    environment = {**with_uv(bare_environment), "PATH": f"{Path(sys.executable).parent}:{bare_environment['PATH']}"}
    environment |= {"SHELL": "/bin/bash", "LC_ALL": "C.UTF-8"}
    where = quote(str(tmp_path / "where"))
    state = f'cd {quote(str(home))}; cd "$(cat {where} 2>/dev/null || pwd)"; set -e\n'
    keep = f"\npwd > {where}"
    running: list[subprocess.Popen[bytes]] = []
    output = tmp_path / "output"
    seen: dict[str, list[str]] = {}
    project = home / "alerts"

    def shell(line: str) -> str:
        line = line.replace("gh:org/piper-template", f"{quote(str(template))} --vcs-ref HEAD")
        script = f"{state}{line}{keep}"
        done = subprocess.run(
            ["bash", "-c", script],
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        assert done.returncode == 0, f"{line}:\n{done.stdout}"
        return done.stdout

    def start(line: str) -> subprocess.Popen[bytes]:
        with open(output, "wb") as file:
            command = ["bash", "-c", f"{state}exec {line}"]
            running.append(
                subprocess.Popen(
                    command, env=environment, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
                )
            )
        return running[-1]

    def count(daemon: str) -> int:
        path = project / "var" / "lib" / daemon / "messages.sqlite"
        if not path.exists():
            return 0
        database = sqlite3.connect(path, timeout=30)
        try:
            return int(database.execute("SELECT count(*) FROM messages").fetchone()[0])
        except sqlite3.OperationalError:
            return 0
        finally:
            database.close()

    try:
        assert len(BLOCKS) > 8
        for kind, lines in BLOCKS:
            for line in lines:
                if kind == "terminal":
                    start(line)
                    until(lambda: "all of alerts runs" in output.read_text(errors="replace"), "make run", 120)
                elif kind == "screen":
                    tmux = ["tmux", "-L", f"tutorial-{os.getpid()}", "-f", "/dev/null"]
                    script = f"{state}exec {line}"
                    subprocess.run(
                        [*tmux, "new-session", "-d", "-x", "100", "-y", "30", script], env=environment, check=True
                    )
                    capture = [*tmux, "capture-pane", "-p"]
                    until(
                        lambda capture=capture: (
                            "alerts-router"
                            in subprocess.run(capture, capture_output=True, text=True, check=False).stdout
                        ),
                        line,
                    )
                    subprocess.run([*tmux, "kill-server"], check=False)
                elif kind == "page":
                    said = subprocess.run(
                        ["bash", "-c", f"{state}timeout --signal INT 5 {line}"],
                        env=environment, capture_output=True, text=True, check=False,
                    )  # fmt: skip
                    assert said.stdout.startswith("Open http://127.0.0.1:8642/?token="), said
                else:
                    if line.startswith("piperctl queue errors"):
                        until(lambda line=line: "not valid UTF-8" in shell(line), "the dead letter")
                    seen.setdefault(line, []).append(shell(line))
                    if line.startswith("echo 'info"):
                        until(lambda: count("alerts-alert") == 1 and count("alerts-rest") == 1, "both messages")
        until(lambda: count("alerts-alert") == 2, "the message that waited")
    finally:
        for process in running:
            os.killpg(process.pid, signal.SIGINT) if process.poll() is None else None
        for process in running:
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
    drawn = re.search(r"^```\n(alerts-reader.*?)^```", TUTORIAL, re.M | re.S)
    assert drawn is not None
    first, last = seen["piperctl pipeline graph"]
    assert first == drawn[1]
    assert "alerts-parser → alerts-enricher → alerts-router" in last
    said = {line: answers[-1] for line, answers in seen.items()}
    assert "nothing is wrong" in said["piperctl pipeline check"]
    assert "2 of 2 tests passed" in said["piperctl pipeline test tests/pipeline.toml"]
    assert "not valid UTF-8" in said["piperctl queue errors alerts-parser"]
    assert "alerts is empty" in said["piperctl pipeline drain --for 60s"]
    described, tested = re.findall(r"^```toml\n(.*?)^```", TUTORIAL, re.M | re.S)
    made = tomllib.loads((project / "pipeline.toml").read_text())
    assert made["daemons"].pop("alerts-enricher") == {"to": "alerts-router"}
    made["daemons"]["alerts-parser"]["to"] = "alerts-router"
    assert made == tomllib.loads(described)
    assert tomllib.loads(tested)["tests"][0] in tomllib.loads((project / "tests/pipeline.toml").read_text())["tests"]
