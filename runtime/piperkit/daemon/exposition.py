"""How metrics leave a daemon: over HTTP, or in a file for node-exporter's textfile collector.

Each way has a thread of its own. The daemon's loop is a single thread, and is a component's for as long as that works
on a message: an hour, perhaps, or for ever where it hangs, and just then somebody wants to see metrics. Components are
not made for threads, so these threads touch none of them: all that they read are the numbers of `metrics`. They take
no signal, and wake up for nothing but a request, or the time of the next file.

With --paralel each instance takes the first free port of the range that is configured, or has a file of its own, with
the instance's serial number in its name. A file is removed when its daemon ends.
"""

from __future__ import annotations

import contextlib
import dataclasses
import encodings.idna  # noqa: F401  now: getaddrinfo() needs it, and after a chroot it may be out of reach
import errno
import glob
import logging
import os
import re
import signal
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Self
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, generate_latest, make_wsgi_app

from piperkit.daemon import process
from piperkit.daemon.runlog import replace_file
from piperkit.errors import ConfigError, ExitStatus, PiperError

LOOPBACK = "127.0.0.1"
#: What the names of files end in that node-exporter reads.
SUFFIX = ".prom"
#: Seconds that a client may take, from connecting to the end of the answer.
_CLIENT_TIMEOUT = 10.0
#: Clients that are answered at the same time; more are turned away.
_CLIENTS_MAX = 8
_ADDRESS = re.compile(r"(?:(?P<host>\[[0-9a-fA-F:.%\w]+\]|[^\[\]:]+):)?(?P<first>\d{1,5})(?:-(?P<last>\d{1,5}))?")


class MetricsUnavailable(PiperError):
    """Metrics cannot be served, or written, as configured."""

    exit_status = ExitStatus.UNAVAILABLE


@dataclasses.dataclass(frozen=True, slots=True)
class Address:
    """Where HTTP is served: a host, and ports of which the first free one is taken."""

    host: str
    ports: range

    @classmethod
    def parse(cls, text: str) -> Self:
        """An address from PORT, HOST:PORT or [IPV6]:PORT, where PORT may be FIRST-LAST. Raises ConfigError."""
        found = _ADDRESS.fullmatch(text)
        if found:
            ports = range(int(found["first"]), int(found["last"] or found["first"]) + 1)
            if ports and ports[-1] <= 65535:
                return cls((found["host"] or LOOPBACK).strip("[]"), ports)
        raise ConfigError(
            f'metrics_address is "{text}"; it must be PORT, HOST:PORT or [IPV6]:PORT, where PORT may be FIRST-LAST'
        )

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.ports[0]}" + (f"-{self.ports[-1]}" if len(self.ports) > 1 else "")


class _Handler(WSGIRequestHandler):
    def log_message(self, format: str, *arguments: Any) -> None:
        """Requests are not logged."""


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def __init__(self, family: int, address: Any) -> None:
        self.address_family = family
        self._free = threading.BoundedSemaphore(_CLIENTS_MAX)
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        """Without asking a name server how we are called, as HTTPServer does: it may take its time."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]
        self.setup_environ()

    def get_request(self) -> Any:
        """Accept; where there are no descriptors left, later."""
        try:
            return super().get_request()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                time.sleep(1.0)
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread of its own, if there are not too many."""
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer, and hang up when that takes too long: a client may send a byte now and then, or read nothing."""
        hang_up = threading.Timer(_CLIENT_TIMEOUT, _hang_up, (request,))
        hang_up.daemon = True
        hang_up.start()
        try:
            super().process_request_thread(request, client_address)
        finally:
            hang_up.cancel()
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away in the middle is not our fault."""


def _hang_up(request: socket.socket) -> None:
    with contextlib.suppress(OSError):
        request.shutdown(socket.SHUT_RDWR)  # wakes whoever waits for it


class HttpExposition:
    """Serves metrics over HTTP. Raises MetricsUnavailable where no port can be had."""

    def __init__(self, address: Address, registry: CollectorRegistry) -> None:
        self._server = _listen(address)
        self._server.set_app(make_wsgi_app(registry))
        host, port = self._server.server_address[:2]
        self.url = f"http://{Address(str(host), range(port, port + 1))}/metrics"
        self._closed = False
        self._thread = _thread("metrics-http", self._serve)

    def forget(self) -> None:
        """This is a forked child, which must not keep the port from the next daemon."""
        self._server.socket.close()

    def _serve(self) -> None:
        while not self._closed:
            self._server.handle_request()  # sleeps without a limit, unlike serve_forever()

    def close(self) -> None:
        """Serve no more. Idempotent."""
        if not self._closed:
            self._closed = True
            self._server.socket.shutdown(socket.SHUT_RDWR)  # wakes the thread
            self._thread.join()
            self._server.server_close()


def _listen(address: Address) -> _Server:
    """A server on the first port that is free."""
    for port in address.ports:
        try:
            family, _, _, _, where = socket.getaddrinfo(address.host, port, type=socket.SOCK_STREAM)[0]
            return _Server(family, where)
        except OSError as error:
            if error.errno == errno.EADDRINUSE and port != address.ports[-1]:
                continue
            more = "; a range, HOST:FIRST-LAST, has a port for each instance" if error.errno == errno.EADDRINUSE else ""
            raise MetricsUnavailable(f"metrics_address: cannot listen on {address}: {error.strerror}{more}") from error
    raise AssertionError("a range of ports is never empty")


class FileExposition:
    """Writes metrics to a file, atomically, now and every `interval` seconds.

    Raises MetricsUnavailable where it cannot be written now. What goes wrong later is told to `log`, once.
    """

    def __init__(self, path: str, interval: float, registry: CollectorRegistry, log: Callable[[str], None]) -> None:
        self.path = path
        self._interval = interval
        self._registry = registry
        self._log = log
        self._end = threading.Event()
        try:
            self._write()
        except OSError as error:
            raise MetricsUnavailable(f"metrics_file: {path} cannot be written: {error.strerror}") from error
        self._thread = _thread("metrics-file", self._keep)

    def _write(self) -> None:
        replace_file(self.path, generate_latest(self._registry), public=True)

    def _keep(self) -> None:
        said = False
        while not self._end.wait(self._interval):
            try:
                self._write()
                said = False
            except OSError as error:
                if not said:
                    self._log(f"The metrics file {self.path} cannot be written: {error.strerror}; it is tried again")
                said = True

    def close(self) -> None:
        """Remove the file. Idempotent."""
        self._end.set()
        self._thread.join()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)


def expose(
    registry: CollectorRegistry,
    config: Mapping[str, Any],
    serial: str | None,
    logger: logging.Logger,
    until: contextlib.ExitStack,
) -> None:
    """Let metrics out as configured, `until` that is closed; `serial` is the instance's. Raises MetricsUnavailable."""
    if config["metrics_address"]:
        http = HttpExposition(Address.parse(config["metrics_address"]), registry)
        until.callback(http.close)
        until.enter_context(process.in_children(http.forget))
        logger.info("Metrics are at %s", http.url)
    if config["metrics_file"]:
        path: str = config["metrics_file"]
        if serial:
            _remove_stale(path, config["pid_file"])
            path = _own(path, serial)
        file = FileExposition(path, config["metrics_interval"], registry, logger.error)
        until.callback(file.close)


def _own(path: str, serial: str) -> str:
    """The metrics file of one of several instances."""
    return f"{path.removesuffix(SUFFIX)}.{serial}{SUFFIX}"


def _remove_stale(path: str, pid_file: str | None) -> None:
    """Remove the files of instances that were killed. Without pid files to read, nobody knows which those are."""
    if not pid_file:
        return
    try:
        running = {file.split(".")[-2] for file in process.pid_files(pid_file, True) if process.running_pid(file)}
    except process.NotAllowed:
        return
    for file in glob.glob(_own(glob.escape(path), "[0-9a-f]*")):
        serial = file.removesuffix(SUFFIX).rpartition(".")[2]
        if re.fullmatch("[0-9a-f]{5,}", serial) and serial not in running:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(file)


def _thread(name: str, target: Callable[[], None]) -> threading.Thread:
    """Start a thread that takes no signal: each of them is to reach the loop at once."""
    thread = threading.Thread(target=target, name=name, daemon=True)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        thread.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return thread
