"""Where messages come from: components that follow files, and that listen on a local socket.

Each is a `piperkit.source.Source` to subclass, or to use as it is:

- `FileSource`: the lines of files that grow, and are rotated;
- `SocketSource`: datagrams, or the lines of connections, of a Unix socket.

`finding` knows which files there are, `follow` decides which are read, `tail` reads one, and `positions` keeps how far.
"""

from piperkit.sources.files import FileSource
from piperkit.sources.sockets import SocketSource

__all__ = ["FileSource", "SocketSource"]
