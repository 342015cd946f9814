"""What systemd gets of a pipeline: the same files each time, and nothing that is not needed any more."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from needs import need
from pipeline_project import Project

Piperctl = Callable[..., "subprocess.CompletedProcess[str]"]


def files(root: Path) -> dict[str, str]:
    return {str(path.relative_to(root)): path.read_text() for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.fixture
def units(project: Project, piperctl: Piperctl, tmp_path: Path) -> Callable[[], dict[str, str]]:
    def make() -> dict[str, str]:
        done = piperctl("pipeline", "units", "--to", tmp_path / "root")
        assert done.returncode == 0, done.stderr
        return files(tmp_path / "root")

    return make


def test_a_target_wants_each_instance_and_consumers_start_first(
    project: Project, units: Callable[[], dict[str, str]]
) -> None:
    project.change("[daemons.rest]\n", "[daemons.rest]\ninstances = 2\n")
    made = units()
    target = made["etc/systemd/system/alerts.target"]
    wants = next(line for line in target.splitlines() if line.startswith("Wants="))
    assert wants == "Wants=reader.service parser.service router.service rest@1.service rest@2.service pager.service"
    router = made["etc/systemd/system/router.service.d/pipeline-alerts.conf"]
    assert "After=rest@1.service rest@2.service pager.service\n" in router
    assert "PartOf=alerts.target\n" in router
    assert "Slice=alerts.slice\n" in router
    assert "etc/systemd/system/rest@.service.d/pipeline-alerts.conf" in made


def test_each_daemon_is_told_its_queues_as_they_are_on_the_machine(units: Callable[[], dict[str, str]]) -> None:
    text = units()["etc/router/pipeline-alerts.json.conf"]
    facts = json.loads("".join(line for line in text.splitlines() if not line.startswith("#")))
    assert facts == {"queue_in_dir": "/var/spool/router", "queue_out_dir": "/var/spool/rest"}


@pytest.mark.slow
def test_doing_it_again_changes_nothing_and_what_is_gone_is_removed_and_nothing_else(
    project: Project, piperctl: Piperctl, units: Callable[[], dict[str, str]], tmp_path: Path
) -> None:
    first = units()
    other = tmp_path / "root" / "etc" / "systemd" / "system" / "pager.service.d" / "mine.conf"
    other.write_text("[Service]\nNice=5\n")
    assert units() == {**first, "etc/systemd/system/pager.service.d/mine.conf": other.read_text()}
    project.change('"rest", "pager"', '"rest"')
    project.change("[daemons.pager]\n", "")
    done = piperctl("pipeline", "units", "--to", tmp_path / "root")
    assert f"{tmp_path}/root/etc/pager/pipeline-alerts.json.conf   removed" in done.stdout
    left = files(tmp_path / "root")
    assert [name for name in left if "pager" in name] == ["etc/systemd/system/pager.service.d/mine.conf"]


def test_others_can_read_them_whatever_the_umask_is(project: Project, piperctl: Piperctl, tmp_path: Path) -> None:
    umask = os.umask(0o077)
    try:
        assert piperctl("pipeline", "units", "--to", tmp_path / "root" / "deep").returncode == 0
    finally:
        os.umask(umask)
    for path in (tmp_path / "root").rglob("*"):
        wanted = 0o755 if path.is_dir() else 0o644
        assert stat.S_IMODE(path.stat().st_mode) == wanted, path


def test_a_loop_has_no_order_and_gets_no_units(project: Project, piperctl: Piperctl, tmp_path: Path) -> None:
    project.change("[daemons.pager]\n", '[daemons.pager]\nto = "parser"\n')
    done = piperctl("pipeline", "units", "--to", tmp_path / "root")
    assert done.returncode == 78
    assert "its daemons are in a loop" in done.stderr
    assert not (tmp_path / "root").exists()


def test_queues_with_odd_names_are_what_tmpfiles_makes(
    project: Project, units: Callable[[], dict[str, str]], tmp_path: Path
) -> None:
    need("systemd", shutil.which("systemd-tmpfiles") is not None, "systemd-tmpfiles")
    odd = tmp_path / "odd 100% queue"
    project.change("[daemons.pager]\n", f'[daemons.pager]\nfrom = "{odd}"\n')
    project.change('"rest", "pager"', f'"rest", "{odd}"')
    text = units()["etc/tmpfiles.d/pipeline-alerts.conf"]
    lines = [line.replace(" pager piper", " - -") for line in text.splitlines() if "odd" in line]
    (tmp_path / "odd.conf").write_text("\n".join(lines).replace(" root root", " - -") + "\n")
    subprocess.run(["systemd-tmpfiles", "--create", tmp_path / "odd.conf"], check=True)
    assert (odd / "incoming").is_dir()
    assert stat.S_IMODE((odd / "incoming").stat().st_mode) == 0o3770
