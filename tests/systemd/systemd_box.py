"""A machine in a box: a copy of this one, booted by a systemd of its own, and thrown away at the end.

Its files are ours with a layer above them that is in memory, so nothing that happens in the box is left. It has its
own processes, mounts, cgroups, host name, and a network that leads nowhere. Needs root, overlayfs and systemd.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Self

SYSTEMD = "/lib/systemd/systemd"
BOOT_SECONDS = 60

#: Run as the first process of the new namespaces: it builds the file system, and becomes systemd.
#: $1: an empty directory, $2: a directory that is the same inside and outside.
INIT = r"""
set -e
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
root=$1/root
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$root"

for directory in run tmp var/tmp var/log etc/systemd/system dev; do
    mount -t tmpfs -o mode=755 tmpfs "$root/$directory"
done
chmod 1777 "$root/tmp" "$root/var/tmp"
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mkdir -p "$root/run/lock" "$root$2"
mount --bind "$2" "$root$2"

cd "$root/dev"
for device in null zero full random urandom tty; do
    : > $device
    mount --bind /dev/$device $device
done
mkdir shm pts mqueue
mount -t tmpfs -o mode=1777 tmpfs shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts pts
ln -s pts/ptmx ptmx
ln -s /proc/self/fd fd

# What looks after real hardware, or waits for a network, has no place here.
cd "$root/etc/systemd/system"
for unit in systemd-udevd systemd-udev-trigger systemd-networkd systemd-resolved systemd-timesyncd systemd-logind \
        systemd-hwdb-update systemd-random-seed systemd-update-utmp systemd-firstboot ldconfig apparmor; do
    ln -s /dev/null $unit.service
done
ip link set lo up 2>/dev/null || true

cd "$root"
mkdir .outside
pivot_root . .outside
umount -l /.outside
exec env -i container=box PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    "$3" --system --unit=basic.target --log-target=console --log-level=warning --show-status=false
"""


def available() -> bool:
    """Whether this machine can boot a box."""
    commands = ("systemctl", "systemd-analyze", "systemd-sysusers", "systemd-tmpfiles", "unshare", "nsenter", "bash")
    if os.geteuid() != 0 or not os.path.exists(SYSTEMD) or not all(shutil.which(command) for command in commands):
        return False
    if shutil.which("modprobe"):
        subprocess.run(["modprobe", "--quiet", "overlay"], check=False, capture_output=True)
    # In a container, root may not be allowed to.
    try_it = ["unshare", "--mount", "--pid", "--fork", "--net", "--cgroup", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return (
        "overlay" in Path("/proc/filesystems").read_text()
        and subprocess.run(try_it, check=False, capture_output=True).returncode == 0
    )


def _cgroup() -> Path | None:
    """A new cgroup, so that the box's systemd finds no processes but its own in it; None where that cannot be."""
    line = next((line for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::")), "")
    for mount in Path("/proc/self/mounts").read_text().splitlines():
        _, place, kind, *_ = mount.split()
        if kind == "cgroup2":
            with contextlib.suppress(OSError):
                return Path(tempfile.mkdtemp(prefix="box-", dir=place + line.removeprefix("0::")))
    return None


class Box:
    """Use it as a context. `shared` is a directory that is the same inside and outside."""

    def __init__(self, shared: Path) -> None:
        self._shared = shared
        self._pid = 0

    def __enter__(self) -> Self:
        self._cgroup = _cgroup()
        self._directory = tempfile.mkdtemp(prefix="box-", dir="/var/tmp")
        enter = ["sh", "-c", 'test -z "$0" || echo $$ > "$0/cgroup.procs"; exec "$@"', str(self._cgroup or "")]
        unshare = ["unshare", "--fork", "--kill-child=KILL"]
        unshare += ["--mount", "--pid", "--uts", "--ipc", "--net", "--cgroup"]
        script = ["bash", "-c", INIT, "box", self._directory, str(self._shared), SYSTEMD]
        self._boot = open(self._shared / "boot.log", "w+b")
        self._process = subprocess.Popen(
            [*enter, *unshare, *script], stdin=subprocess.DEVNULL, stdout=self._boot, stderr=self._boot
        )
        try:
            self._wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _wait(self) -> None:
        """Until systemd has reached its first target."""
        end = time.monotonic() + BOOT_SECONDS
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        while time.monotonic() < end and self._process.poll() is None:
            self._pid = self._pid or int((children.read_text().split() or ["0"])[0])
            # Before it is systemd, our own root is still its root: no command may run there.
            if self._pid and os.path.realpath(f"/proc/{self._pid}/exe").endswith("/systemd"):
                done = self.run("systemctl", "is-active", "basic.target", check=False)
                if done.stdout.strip() == "active":
                    return
            time.sleep(0.02)
        raise RuntimeError(f"the box did not boot: {(self._shared / 'boot.log').read_text(errors='replace')}")

    def __exit__(self, *_: object) -> None:
        if self._pid and self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)  # and with it, everything in the box
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
        self._process.kill()
        self._process.wait()
        self._boot.close()
        os.rmdir(self._directory)
        if self._cgroup is not None:
            for directory, _, _ in os.walk(self._cgroup, topdown=False):
                with contextlib.suppress(OSError):
                    os.rmdir(directory)

    def run(self, *command: str, check: bool = True, cwd: str = "/") -> subprocess.CompletedProcess[str]:
        """Run a command in the box, as root. With `check`, raises AssertionError where it fails."""
        enter = ["nsenter", f"--target={self._pid}", "--mount", "--pid", "--uts", "--ipc", "--net", "--cgroup"]
        environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}
        done = subprocess.run(
            [*enter, "sh", "-c", 'cd "$0" && exec "$@"', cwd, *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=environment,
            check=False,
        )
        assert not check or done.returncode == 0, f"{' '.join(command)}: {done.stdout}"
        return done

    def path(self, path: str) -> Path:
        """A file of the box, as seen from outside. An absolute link in it would lead outside."""
        return Path(f"/proc/{self._pid}/root{path}")
