"""The daemon: pyzenkit's frame, with a loop, signals, configuration, logs and a run log of its own."""

from piperkit.daemon.piper import PiperDaemon

__all__ = ["PiperDaemon"]
