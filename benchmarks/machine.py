"""What the machine is that a run was made on, so that its figures mean something."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from piperkit.dirq.fs import Directory, file_system


def describe(places: dict[str, Path]) -> dict[str, str]:
    """Processor, memory, kernel, Python, how busy it is, and the kind of each file system.

    places: directories by name.
    """
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "processor": f"{os.cpu_count()} x {_processor()}",
        "memory": f"{memory:.0f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "load": f"{os.getloadavg()[0]:.1f} before the run",
        **{name: _file_system(directory) for name, directory in places.items()},
    }


def _file_system(directory: Path) -> str:
    directory.mkdir(parents=True, exist_ok=True)
    return file_system(Directory(str(directory)))


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
