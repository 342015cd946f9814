"""Where a daemon's files are: under its checkout while it is developed, in the system's places when installed."""

from __future__ import annotations

import os


def application_paths(anchor: str, name: str = "") -> dict[str, str]:
    """The arguments path_cfg, path_var, ... of `PiperDaemon`, for the program that has its code in the file `anchor`.

    Where a pyproject.toml stands one or two directories above the package (with or without `src`), the program runs
    from a checkout: its configuration is in etc/ there, everything else under var/. Installed, it has a directory
    called `name` in /run, which can belong to its account.
    """
    root = checkout(anchor)
    if root is not None:
        var = os.path.join(root, "var")
        return {
            "path_bin": os.path.join(root, "bin"),
            "path_cfg": os.path.join(root, "etc"),
            "path_var": var,
            "path_log": os.path.join(var, "log"),
            "path_run": os.path.join(var, "run"),
            "path_tmp": os.path.join(var, "tmp"),
        }
    return {
        "path_cfg": "/etc",
        "path_var": "/var",
        "path_log": "/var/log",
        "path_run": os.path.join("/run", name),
        "path_tmp": "/var/tmp",
    }


def checkout(anchor: str) -> str | None:
    """The checkout that the program with its code in the file `anchor` runs from; None where it is installed."""
    package = os.path.dirname(os.path.abspath(anchor))
    for root in (os.path.dirname(package), os.path.dirname(os.path.dirname(package))):
        if os.path.isfile(os.path.join(root, "pyproject.toml")):
            return root
    return None
