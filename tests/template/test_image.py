"""The container image: built by the project's `make image` with a real builder, and its daemon run.

No registry is asked. The image that it is made from is built here, of the files of this Debian's own packages, under
the name that the container file gives. buildah stands in for podman, whose builder it is.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from installing import with_uv
from needs import need
from programs import output
from template_project import Generate

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

#: A Python with pip, and what the container file calls.
PACKAGES = ("base-files", "base-passwd", "coreutils", "dash", "login", "passwd", "python3", "python3-venv")
TOOLS = ("buildah", "apt-cache", "dpkg", "make")
DEPENDS = ("--recurse", "--important", "--installed", "--no-recommends", "--no-suggests", "--no-conflicts",
           "--no-breaks", "--no-replaces", "--no-enhances")  # fmt: skip
#: What packages do where they are installed, as far as it is needed: $1 is the root, the files' names are read.
ASSEMBLE = """
set -e
mkdir -p "$1/usr/bin" "$1/usr/sbin" "$1/usr/lib" "$1/usr/lib64" "$1/usr/local/bin"
tar -C / --no-recursion --ignore-failed-read -cf - -T - 2>/dev/null | tar -C "$1" --keep-directory-symlink -xf -
for file in passwd group; do cp "$1/usr/share/base-passwd/$file.master" "$1/etc/$file"; done
rm -f "$1"/usr/lib/python3*/EXTERNALLY-MANAGED
cat > "$1/usr/local/bin/pip" <<'END'
#!/bin/sh
PYTHONPATH=$(echo /usr/share/python-wheels/pip-*.whl) exec python3 -m pip "$@"
END
chmod 755 "$1/usr/local/bin/pip"
"""

Buildah = Callable[..., str]


@pytest.fixture
def environment(tmp_path: Path, bare_environment: dict[str, str]) -> Iterator[dict[str, str]]:
    """Where `podman` is a buildah with a store of its own, which needs neither a network nor namespaces."""
    able = os.geteuid() == 0 and all(map(shutil.which, TOOLS)) and Path("/usr/share/python-wheels").is_dir()
    need("buildah", able, "root, a Debian with the package buildah, and python3-venv")
    store = tmp_path / "store"
    podman = tmp_path / "bin" / "podman"
    podman.parent.mkdir()
    podman.write_text(
        f'#!/bin/sh\nexec buildah --storage-driver vfs --root "{store}/root" --runroot "{store}/run" "$@"\n'
    )
    podman.chmod(0o755)
    path = f"{podman.parent}:{bare_environment['PATH']}"
    yield {**with_uv(bare_environment), "PATH": path, "BUILDAH_ISOLATION": "chroot"}
    shutil.rmtree(store, ignore_errors=True)  # some hundred megabytes


@pytest.fixture
def buildah(environment: dict[str, str], tmp_path: Path) -> Iterator[Buildah]:
    def call(*arguments: str | Path) -> str:
        return output(tmp_path / "bin" / "podman", *arguments, env=environment).strip()

    yield call
    call("rm", "--all")


@pytest.fixture
def base(buildah: Buildah, tmp_path: Path) -> str:
    """The image that the container file begins with; returns the version of its Python."""
    version = output("/usr/bin/python3", "-c", "import sys; print('%d.%d' % sys.version_info[:2])").strip()
    found = {line for line in output("apt-cache", "depends", *DEPENDS, *PACKAGES).splitlines() if line[0].isalnum()}
    files = set(output("dpkg", "--listfiles", *sorted(found)).splitlines())
    root = tmp_path / "base"
    root.mkdir()
    names = "\n".join(sorted(name for name in files if name.startswith("/") and not name.startswith("/usr/share/doc")))
    output("sh", "-c", ASSEMBLE, "sh", root, input=names)
    container = buildah("from", "scratch")
    buildah("copy", "--quiet", container, root, "/")
    buildah("commit", "--quiet", "--format", "docker", container, f"docker.io/library/python:{version}-slim")
    shutil.rmtree(root)
    return version


def test_the_image_is_built_and_its_daemons_pass_messages_on_as_an_account_without_rights(
    generate: Generate,
    template: Path,
    piperctl: Callable[..., subprocess.CompletedProcess[str]],
    environment: dict[str, str],
    base: str,
    buildah: Buildah,
    until: Callable[..., None],
) -> None:
    """Both of a project: what one passes on, the other could take."""
    project = generate("my-daemon", source=template, container=True)
    assert piperctl("add", "daemon", "second", cwd=project).returncode == 0
    output("make", "--directory", project, "image", "PYTHON=/usr/bin/python3", env=environment)
    config = json.loads(buildah("inspect", "--type", "image", "localhost/my-daemon"))["OCIv1"]["config"]
    assert (config["User"], list(config["Volumes"])) == ("900", ["/var/spool"])

    output("make", "--directory", project, "sbom", "PYTHON=/usr/bin/python3", env=environment)
    listed = json.loads((project / "dist" / "sbom.cdx.json").read_text())
    assert (listed["bomFormat"], listed["metadata"]["component"]["name"]) == ("CycloneDX", "my-daemon")
    held = {each["name"]: each["version"] for each in listed["components"]}

    container = buildah("from", "--pull-never", "localhost/my-daemon")
    podman = shutil.which("podman", path=environment["PATH"])
    run = [podman, "run", container, "--"]

    def inside(*command: str, **options: object) -> str | None:
        """What a command prints in the container, where the volume is; None where it fails."""
        done = subprocess.run([*run, *command], env=environment, capture_output=True, text=True, check=False, **options)
        return done.stdout if done.returncode == 0 else None

    installed = json.loads(inside("pip", "list", "--format", "json") or "[]")
    ours = {each["name"]: each["version"] for each in installed if each["name"] in held}
    assert ours == held
    assert {"piperkit", "pyzenkit"} <= held.keys()
    assert '= "second"  (default)' in (inside("second", "--action=config-view") or "")
    command = [*run, *config["Entrypoint"], "--queue-out-dir=second"]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as daemon:
        try:
            # Its log goes to the terminal. A signal to buildah would end it at once, so the daemon itself gets it.
            assert daemon.stderr is not None
            pid = next(found[1] for line in daemon.stderr if (found := re.search(r"starts, with pid (\d+)", line)))
            until(lambda: inside("test", "-d", "/var/spool/my-daemon/state") is not None, "the queue")
            assert inside("piperctl", "queue", "put", "/var/spool/my-daemon", input="hello") is not None
            until(lambda: inside("sh", "-c", "cat /var/spool/second/incoming/*") == "hello", "the message")
            assert inside("sh", "-c", "stat --format=%u /var/spool/second/incoming/*") == "900\n"
            os.kill(int(pid), signal.SIGTERM)
            daemon.communicate()
        except BaseException:
            daemon.kill()
            raise
    assert daemon.returncode == 0
