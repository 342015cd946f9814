"""uv, for the many environments that tests make; some make theirs with pip, as users do by default."""

from __future__ import annotations

import ast
import functools
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from programs import output

#: What pip's settings are to uv, which reads none of them.
SETTINGS = {
    "cert": "SSL_CERT_FILE",
    "constraint": "UV_CONSTRAINT",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "index-url": "UV_DEFAULT_INDEX",
}
UV = Path(sys.executable).parent / "uv"
#: Builds wheels and source archives, in the environment that `with_uv` gives.
BUILD = (sys.executable, "-m", "build", *(("--installer", "uv") if UV.exists() else ()))
#: For dpkg-deb(1), to which the best compression is most of the work.
HARDLY_COMPRESSED = {"DPKG_DEB_COMPRESSOR_LEVEL": "0"}


def with_uv(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment, but that a Makefile takes uv; one without uv is as it was."""
    return {**environment, **_configured(), "UV": str(UV)} if UV.exists() else dict(environment)


def install(directory: Path, *what: str) -> Path:
    """Make an environment in a directory, with these packages; returns its interpreter."""
    python = directory / "bin" / "python"
    if UV.exists():
        make, fill = [UV, "venv", "--quiet", "--python", sys.executable], [UV, "pip", "install", "--python", python]
    else:
        make, fill = [sys.executable, "-m", "venv"], [python, "-m", "pip", "install"]
    output(*make, directory, env=with_uv(os.environ))
    output(*fill, "--quiet", *what, env=with_uv(os.environ))
    return python


@functools.cache
def _configured() -> dict[str, str]:
    """What uv has to know of this machine. Of pip's settings its variables count most, so they are last here."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    cache = os.environ.get("UV_CACHE_DIR", str(Path.home() / ".cache" / "uv"))
    found = {"UV_CACHE_DIR": cache, "UV_INDEX_STRATEGY": "unsafe-best-match"}  # of all indexes, as pip does
    for name, _, value in (line.partition("=") for line in sorted(lines, key=lambda line: line.startswith(":env:"))):
        setting = name.rpartition(".")[2]
        if setting in SETTINGS:
            separator = " " if setting == "extra-index-url" else ","
            found[SETTINGS[setting]] = separator.join(ast.literal_eval(value).split())
    return found
