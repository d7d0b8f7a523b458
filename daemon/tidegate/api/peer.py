"""Who is at the other end of a connection, as the kernel tells it. It judges nobody."""

import socket
import struct

from msgspec import Struct

SO_PEERGROUPS = 59  # socket(7); Python has no name for it
GROUPS_BYTES_MAX = 1024  # 256 groups, what Python lets one ask for


class Peer(Struct, frozen=True, kw_only=True):
    """The process that connected, over the socket; an address, over TCP."""

    address: str = ""  # "" over the socket
    uid: int = -1
    gid: int = -1
    groups: tuple[int, ...] = ()
    pid: int = 0  # 0: it lives in another pid namespace

    @property
    def local(self) -> bool:
        """Whether the kernel vouches for it: it came over the socket."""
        return self.uid >= 0

    @property
    def key(self) -> str:
        """What its requests are counted under."""
        return f"uid {self.uid}" if self.local else self.address


def peer_of(sock: socket.socket) -> Peer:
    """The credentials that the peer had when it connected: what it becomes later changes nothing."""
    if sock.family != socket.AF_UNIX:
        try:
            return Peer(address=str(sock.getpeername()[0]))
        except OSError:
            return Peer(address="?")  # gone already
    pid, uid, gid = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    try:
        raw = sock.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, GROUPS_BYTES_MAX)
        groups = struct.unpack(f"{len(raw) // 4}I", raw)
    except OSError:
        groups = ()  # more than fit: the group database is asked all the same
    return Peer(uid=uid, gid=gid, groups=groups, pid=pid)
