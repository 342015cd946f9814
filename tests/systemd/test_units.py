"""The units that come with a generated project, as systemd's own tools judge them; nothing is booted."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import summary
from needs import need
from systemd_project import Generate, make

UNITS = ("mydaemon.service", "mydaemon@.service", "mydaemon.target")
MONITORING = ("mydaemon.loopback.conf", "mydaemon.dashboard.json", "mydaemon.rules.yml")


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    need("systemd", shutil.which("systemd-analyze") is not None, "systemd-analyze")
    command = ["systemd-analyze", *map(str, arguments)]
    return subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)


@pytest.mark.parametrize("network", [False, True])
@pytest.mark.slow
def test_verify_says_nothing(generate: Generate, network: bool) -> None:
    project = generate(description="Doesn't lose 50 % of “anything”", network=network)
    for unit in UNITS[:2]:
        path = project / "systemd" / unit
        # Of a command that is there: one that is missing would be named.
        path.write_text(path.read_text().replace("/usr/local/bin/mydaemon", sys.executable))
    done = analyze("verify", *(project / "systemd" / unit for unit in UNITS))
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.slow
def test_the_unit_of_the_page_is_right_and_safe(generate: Generate) -> None:
    unit = generate(web=True) / "systemd" / "mydaemon-web.service"
    done = analyze("security", "--offline=true", unit)
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert found, done.stdout
    assert float(found[1]) <= 2.0
    summary.add(f"systemd: exposure of {unit.name}: {found[1]}")
    unit.write_text(unit.read_text().replace("/usr/local/lib/mydaemon/bin/piperctl", sys.executable))
    done = analyze("verify", unit)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize(("network", "limit"), [(False, 1.5), (True, 2.0)])
@pytest.mark.slow
def test_units_are_rated_as_safe(generate: Generate, network: bool, limit: float) -> None:
    project = generate(network=network)
    for unit in UNITS[:2]:
        done = analyze("security", "--offline=true", project / "systemd" / unit)
        found = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
        assert found, done.stdout
        assert float(found[1]) <= limit
        summary.add(f"systemd: exposure of {unit}{' with the network' if network else ''}: {found[1]}")


def test_the_drop_in_for_metrics_leaves_a_unit_as_safe_as_one_with_the_network(generate: Generate) -> None:
    project = generate()
    drop_in = project / "systemd" / "mydaemon.service.d"
    drop_in.mkdir()
    (project / "monitoring" / "mydaemon.loopback.conf").rename(drop_in / "loopback.conf")
    unit = project / "systemd" / UNITS[0]
    done = analyze("security", "--offline=true", unit)
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert found, done.stdout
    assert float(found[1]) <= 2.0
    assert re.search("PrivateNetwork=.*Service has access to the host's network", done.stdout)  # it was read
    unit.write_text(unit.read_text().replace("/usr/local/bin/mydaemon", sys.executable))
    done = analyze("verify", unit)
    assert (done.returncode, done.stdout) == (0, "")


def test_what_needs_no_second_try_is_not_started_again(generate: Generate) -> None:
    project = generate()
    for unit in UNITS[:2]:
        text = (project / "systemd" / unit).read_text()
        assert "\nRestart=on-failure\n" in text
        assert "\nRestartPreventExitStatus=64 78\n" in text


def test_all_queues_are_below_one_writable_path(generate: Generate) -> None:
    """rename(2) fails between two."""
    project = generate()
    for unit in UNITS[:2]:
        text = (project / "systemd" / unit).read_text()
        assert re.findall("^(?:ReadWrite|Bind)Paths=.*", text, re.MULTILINE) == ["ReadWritePaths=/var/spool"]


def files(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}


@pytest.mark.parametrize("prefix", ["/usr", "/usr/local", "/opt/it"])
@pytest.mark.slow
def test_files_of_a_package_are_where_they_belong(generate: Generate, tmp_path: Path, prefix: str) -> None:
    project, root = generate(), tmp_path / "root"
    make(project, "install-files", f"DESTDIR={root}", f"PREFIX={prefix}")
    library = f"{prefix[1:]}/lib" if prefix.startswith("/usr") else "etc"
    assert files(root) == {
        "etc/mydaemon.conf",
        *(f"{library}/systemd/system/{unit}" for unit in UNITS),
        f"{library}/sysusers.d/mydaemon.conf",
        f"{library}/tmpfiles.d/mydaemon.conf",
        *(f"{prefix[1:]}/share/doc/mydaemon/{name}" for name in ("LICENSE", "README.md")),
        *(f"{prefix[1:]}/share/mydaemon/monitoring/{name}" for name in MONITORING),
    }
    for unit in UNITS[:2]:
        text = (root / library / "systemd/system" / unit).read_text()
        assert f"\nExecStart={prefix}/bin/mydaemon --no-daemon " in text
    assert not [path for path in root.rglob("*") if path.is_file() and str(tmp_path) in path.read_text()]


def test_install_leaves_a_configuration_alone_and_so_does_uninstall(generate: Generate, tmp_path: Path) -> None:
    project, root = generate(), tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "etc/mydaemon.conf").write_text("{}")
    make(project, "install-files", f"DESTDIR={root}")
    make(project, "uninstall", f"DESTDIR={root}")
    assert files(root) == {"etc/mydaemon.conf"}
    assert (root / "etc/mydaemon.conf").read_text() == "{}"


@pytest.mark.slow
def test_what_belongs_to_another_program_of_that_name_is_left_alone(generate: Generate, tmp_path: Path) -> None:
    project, root = generate(), tmp_path / "root"
    others = {"usr/lib/mydaemon/theirs", "usr/share/mydaemon/theirs", "usr/share/doc/mydaemon/theirs"}
    for name in others:
        (root / name).parent.mkdir(parents=True)
        (root / name).write_text("theirs")
    (project / "dist").mkdir()
    for target in ("install-program", "uninstall"):
        command = ["make", target, f"DESTDIR={root}", "PREFIX=/usr"]
        done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
        assert done.returncode != 0
        assert f"Nothing was changed: {root}/usr/lib/mydaemon belongs to another program" in done.stderr
    shutil.rmtree(root / "usr/lib/mydaemon")
    make(project, "install-files", f"DESTDIR={root}", "PREFIX=/usr")
    make(project, "uninstall", f"DESTDIR={root}", "PREFIX=/usr")
    assert files(root) == {"etc/mydaemon.conf", *others} - {"usr/lib/mydaemon/theirs"}


def test_a_project_without_units_installs_none(generate: Generate, tmp_path: Path) -> None:
    project, root = generate(systemd=False, licence="none", metrics=False), tmp_path / "root"
    make(project, "install-files", f"DESTDIR={root}", "PREFIX=/usr")
    assert files(root) == {"etc/mydaemon.conf", "usr/share/doc/mydaemon/README.md"}
    make(project, "uninstall", f"DESTDIR={root}", "PREFIX=/usr")


@pytest.mark.slow
def test_an_installed_program_names_no_place_that_it_was_collected_in(project: Path, tmp_path: Path) -> None:
    """As for a package: nothing outside DESTDIR is touched, and its command works once it is in its place."""
    root = tmp_path / "root"
    make(project, "install", f"DESTDIR={root}", "PREFIX=/usr")
    assert {path.name for path in (root / "usr/bin").iterdir()} == {"mydaemon", "other"}
    assert {path.name for path in root.iterdir()} == {"etc", "usr"}
    for path in root.rglob("*"):
        assert not path.is_file() or str(tmp_path).encode() not in path.read_bytes(), path
        assert path.stat().st_mode & 0o555 == 0o555 or path.is_file(), path
    command = (root / "usr/bin/mydaemon").read_text()
    moved = tmp_path / "mydaemon"
    moved.write_text(command.replace("/usr/lib/mydaemon", f"{root}/usr/lib/mydaemon"))
    interpreter = command.splitlines()[0].removeprefix("#!").split()[0]
    done = subprocess.run([interpreter, moved, "--help"], text=True, capture_output=True, check=True)
    assert "--queue-in-dir" in done.stdout
    make(project, "uninstall", f"DESTDIR={root}", "PREFIX=/usr")
    assert files(root) == {"etc/mydaemon.conf", "etc/other.conf"}
