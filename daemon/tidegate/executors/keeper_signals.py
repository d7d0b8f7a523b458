"""Signals to the keeper, as its loop hears of them. Part of the keeper's process: standard library only; it acts on
none of them.
"""

import signal
import socket

WAKE_BYTES = 4096  # heard at once; epoll tells of what is left


class Signals:
    """Each comes as its number in one byte, through a socket that epoll waits for as for any other."""

    def __init__(self) -> None:
        self._read, self._write = socket.socketpair()
        self._read.setblocking(False)
        self._write.setblocking(False)
        self.fd = self._read.fileno()
        self.waiting = False  # something came since `heard`: known at once, without a look at the socket

    def begin(self) -> None:
        signal.set_wakeup_fd(self._write.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, self._on_signal)

    def _on_signal(self, *_: object) -> None:
        self.waiting = True

    def heard(self) -> bytes:
        """What came. It is asked before children are reaped, so that one that ends in between is heard of again."""
        self.waiting = False
        try:
            return self._read.recv(WAKE_BYTES)
        except BlockingIOError:
            return b""
