"""`make deb`: a Debian package of the runtime with piperctl, in dist/, from the source archive of `make dist`."""

from __future__ import annotations

import email.utils
import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
DIST = ROOT / "dist"
WORK = ROOT / "build" / "deb"


def main() -> int:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    archive = DIST / f"piperkit-{project['version']}.tar.gz"
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    with tarfile.open(archive) as source:
        source.extractall(WORK, filter="data")
    tree = WORK / f"piperkit-{project['version']}"
    shutil.copytree(ROOT / "debian", tree / "debian")
    shutil.copy(ROOT / "CHANGELOG.md", tree)
    (tree / "debian" / "changelog").write_text(changelog(project["version"], archive.stat().st_mtime))
    # Without a signature: that is for whoever publishes it.
    done = subprocess.run(["dpkg-buildpackage", "--build=binary", "--no-sign"], cwd=tree, check=False)
    for made in WORK.glob("piperkit_*"):
        shutil.copy(made, DIST)
    return done.returncode


def changelog(version: str, when: float) -> str:
    """What Debian needs to know of the release: CHANGELOG.md, which is in the package, has what is new."""
    epoch = float(os.environ.get("SOURCE_DATE_EPOCH", when))
    debian = version.replace("rc", "~rc")  # which is before the release without it
    return (
        f"piperkit ({debian}) unstable; urgency=medium\n\n"
        "  * /usr/share/doc/piperkit/changelog.gz says what is new.\n\n"
        f" -- The piperkit developers <piperkit@example.org>  {email.utils.formatdate(epoch)}\n"
    )


if __name__ == "__main__":
    sys.exit(main())
