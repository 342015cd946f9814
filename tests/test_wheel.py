"""What is published: the wheel, in a clean environment."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_wheel_installs_into_a_clean_environment_and_works(tmp_path: Path) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    build = [sys.executable, "-m", "build", "--wheel", "--outdir", tmp_path / "dist", ROOT]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = (tmp_path / "dist").iterdir()
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python, piperctl = tmp_path / "venv/bin/python", tmp_path / "venv/bin/piperctl"
    subprocess.run([python, "-m", "pip", "install", "--quiet", wheel], check=True, capture_output=True)
    done = subprocess.run([piperctl, "--version"], check=True, capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout == f"piperctl {version}\n"
    check = "from piperkit import Component, PiperDaemon, Message; import piperkit, sys; print(piperkit.__file__)"
    done = subprocess.run([python, "-c", check], check=True, capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.startswith(str(tmp_path))
    assert (Path(done.stdout.strip()).parent / "py.typed").exists()
