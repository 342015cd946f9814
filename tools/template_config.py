"""Write the template's configuration file anew, from what the runtime knows of its keys.

Run it after a change to `piperkit.daemon.options`: .venv/bin/python tools/template_config.py
A test compares the two.
"""

import subprocess
import sys
from pathlib import Path

TARGET = Path(__file__).parents[1] / "template" / "daemon" / "etc" / "{{ daemon_name }}.conf.jinja"
NAME = "the-name-of-the-daemon"
CODE = f"from piperkit import PiperDaemon; PiperDaemon(name={NAME!r}, description='', schedule=()).run()"


def render() -> str:
    """The configuration file that a daemon prints, as a template."""
    command = [sys.executable, "-c", CODE, "--action", "config-template"]
    text = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    default = '"message_format": "text"'
    assert text.count(default) == 1
    return text.replace(default, '"message_format": "{{ messages }}"').replace(NAME, "{{ daemon_name }}")


if __name__ == "__main__":
    TARGET.write_text(render(), encoding="utf-8")
    print(f"{TARGET} is written")
