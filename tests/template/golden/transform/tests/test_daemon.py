"""The daemon, its command and its configuration file."""

import re
import subprocess
import sys
from pathlib import Path

from piperkit.testing import Piper

from mydaemon.daemon import build

CONFIGURATION = Path(__file__).parents[1] / "etc" / "mydaemon.conf"
KEY = re.compile(r'^[\s#]*"(\w+)":', re.MULTILINE)


def command(*arguments: str) -> str:
    """What the command prints."""
    line = [sys.executable, "-m", "mydaemon", *arguments]
    return subprocess.run(line, stdout=subprocess.PIPE, text=True, check=True).stdout


def test_the_command_explains_its_options() -> None:
    assert "--queue-in-dir" in command("--help")


def test_the_configuration_file_explains_every_key() -> None:
    known = set(KEY.findall(command("--action", "config-template")))
    assert known
    assert set(KEY.findall(CONFIGURATION.read_text(encoding="utf-8"))) == known


def test_it_starts_and_ends(piper: Piper) -> None:
    assert piper.run(build) == 0
    assert "The daemon has ended, with status 0" in piper.log
