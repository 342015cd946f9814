"""Write the template's configuration file anew, and what each kind of component adds to it, as the runtime prints it.

Run it after a change to the options of the runtime or of a component: .venv/bin/python tools/template_config.py
A test compares.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

TEMPLATE = Path(__file__).parents[1] / "template"
TARGET = TEMPLATE / "daemon" / "etc" / "{{ daemon_name }}.conf.jinja"
KINDS = TEMPLATE / "kinds"
NAME = "the-name-of-the-daemon"
CODE = """
from piperkit import PiperDaemon
import stub

PiperDaemon(name="the-name-of-the-daemon", description="", schedule=(), components=stub.components).run()
"""
#: What a kind adds stands before the closing brace.
MORE = '{% include "template/kinds/" ~ stub ~ "/keys.conf.jinja" ignore missing -%}\n}\n'


#: The input queue, where the answer names a database.
QUEUE = """\
{{%- if database %}}
    "queue_in_dir": "{{{{ database }}}}{{{{ '&' if '?' in database else '?' }}}}queue={{{{ daemon_name }}}}"
{{%- else %}}
{queue}{{%- endif %}}
"""


def render() -> dict[Path, str]:
    """The files and their contents: the configuration file, and a fragment for each kind that has keys of its own."""
    base = _printed("components = []").removesuffix("}\n")
    default = '"message_format": "text"'
    assert base.count(default) == 1
    queue = '    # "queue_in_dir": "the-name-of-the-daemon"\n'
    assert base.count(queue) == 1
    asked = base.replace(queue, QUEUE.format(queue=queue)).replace(default, '"message_format": "{{ messages }}"')
    found = {TARGET: _named(asked + MORE)}
    for stub in sorted(KINDS.glob("*/component.py.jinja")):
        code = re.sub(r"{{ \w+ }}", "Stub", stub.read_text(encoding="utf-8"))
        more = _printed(f"{code}\ncomponents = [Stub()]").removesuffix("}\n").removeprefix(base)
        if more:
            found[stub.with_name("keys.conf.jinja")] = _named(more)
    return found


def _named(text: str) -> str:
    return text.replace(NAME, "{{ daemon_name }}")


def _printed(stub: str) -> str:
    """The configuration file that a daemon with these components prints."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory, "stub.py").write_text(stub, encoding="utf-8")
        return subprocess.run(
            [sys.executable, "-c", CODE, "--action", "config-template"],
            env={**os.environ, "PYTHONPATH": directory},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        ).stdout


if __name__ == "__main__":
    for path, text in render().items():
        path.write_text(text, encoding="utf-8")
        print(f"{path} is written")
