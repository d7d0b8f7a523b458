"""sd_notify(3): tells systemd how the service is. Silent where nobody listens; never blocks, never raises.

The protocol is one datagram of KEY=value lines to $NOTIFY_SOCKET; a name that begins with @ is abstract.
"""

import os
import socket
from collections.abc import Mapping


class Notifier:
    """The notify socket of the service manager, if there is one."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket: socket.socket | None = None
        if self._address:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.setblocking(False)
        self.watchdog_s = _watchdog_s(environ) if self._socket else None

    @property
    def listening(self) -> bool:
        """Whether anybody asked to be told."""
        return self._socket is not None

    def send(self, **fields: str | int) -> bool:
        """One datagram, e.g. send(READY=1, STATUS="…"). False where it was not taken."""
        if self._socket is None:
            return False
        text = "\n".join(f"{key}={value}" for key, value in fields.items())
        try:
            self._socket.sendto(text.encode(), self._address)
        except OSError:
            # The manager is gone or its socket is full; there is nobody to tell.
            return False
        return True


def _watchdog_s(environ: Mapping[str, str]) -> float | None:
    """The watchdog's interval in seconds, None when it is off or meant for another process."""
    pid = environ.get("WATCHDOG_PID", "")
    if pid and pid != str(os.getpid()):
        return None
    usec = environ.get("WATCHDOG_USEC", "")
    return int(usec) / 1e6 if usec.isdigit() and int(usec) > 0 else None
