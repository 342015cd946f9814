"""Where messages come from: components that follow files, and that listen on a local socket.

Each is a `piperkit.source.Source` to subclass, or to use as it is:

- `FileSource`: the lines of files that grow, and are rotated;
- `SocketSource`: datagrams, or the lines of connections, of a Unix socket.

`follow` finds the files and remembers how far each was read, in the file that `positions` describes; `tail` reads one.
"""

from piperkit.sources.files import FileSource
from piperkit.sources.sockets import SocketSource

__all__ = ["FileSource", "SocketSource"]
