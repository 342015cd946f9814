"""A project made from the template as its user would, and a machine that it is installed on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import copier
import pytest

import systemd_box
from checkout import copy_parts
from needs import need
from piperkit.project import add
from systemd_project import COMPONENT, Generate, make, public_python


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkout without git, as from an archive."""
    directory = tmp_path_factory.mktemp("unpacked") / "piper-template"
    copy_parts(directory)
    return directory


@pytest.fixture
def generate(template: Path, tmp_path: Path) -> Generate:
    """Make a project in the test's directory; what is not answered has its default."""

    def make(folder: str = "mydaemon", **answers: object) -> Path:
        copier.run_copy(str(template), tmp_path / folder, answers, defaults=True, quiet=True)
        return tmp_path / folder

    return make


@pytest.fixture(scope="session")
def project(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a component of its owner, and another daemon, and with its wheels made."""
    python = public_python()
    need("systemd", python is not None, "a Python 3.11 or newer, with venv, that any account may run")
    target = tmp_path_factory.mktemp("shared") / "mydaemon"
    copier.run_copy(str(template), target, defaults=True, quiet=True)
    (target / "src/mydaemon/component.py").write_text(COMPONENT.lstrip(), encoding="utf-8")
    add.daemon(target, "other", {})
    make(target, "wheels", f"PYTHON={python}")
    return target


@pytest.fixture(scope="session")
def box(project: Path) -> Iterator[systemd_box.Box]:
    """A booted machine, without a network, on which the project's own `make install` was run."""
    need("systemd", systemd_box.available(), "root that may mount, systemd and overlayfs")
    with systemd_box.Box(project.parent) as box:
        box.run("make", "install", cwd=str(project))
        box.run("systemd-sysusers", "mydaemon.conf")
        box.run("systemd-tmpfiles", "--create", "mydaemon.conf")
        box.run("systemctl", "daemon-reload")
        box.run("useradd", "--groups=piper", "alice")
        yield box
