"""A server that ends every connection as soon as it stands, from a thread of its own as another machine would."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

AT_ONCE = struct.pack("ii", 1, 0)  # SO_LINGER: a reset instead of a farewell


@contextmanager
def turning_away(last_words: bytes = b"") -> Iterator[int]:
    """Serve on loopback and yield the port; without last words a connection is reset."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=100)

    def serve() -> None:
        with suppress(OSError):  # it is over
            while True:
                caller, _ = listening.accept()
                with caller:
                    caller.sendall(last_words)
                    if not last_words:
                        caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)

    serving = threading.Thread(target=serve)
    serving.start()
    try:
        yield listening.getsockname()[1]
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        serving.join()
        listening.close()
