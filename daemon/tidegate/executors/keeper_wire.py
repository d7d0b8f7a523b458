"""The keeper's end of its protocol. Part of the keeper's process: standard library only, no meaning of messages here.

A frame is two lengths (4 bytes each, little endian), then that much JSON, then that many bytes of note: text that the
keeper never looks into and gives back as it came. A supervisor says {"type": "hello", "version": N} first; the answer
is hello with `count`, and as many `held` frames, one for each attempt. After that it sends spawn (with a note), signal,
acknowledge and shutdown, and is sent started, start_failed and exited.
"""

import json
import socket
import struct

PROTOCOL_VERSION = 1
FRAME_BYTES_MAX = 16 * 1024 * 1024  # argv and environment of one run are 2 MiB at most, and JSON may escape them
RECEIVE_BYTES = 64 * 1024  # from 128 KiB on the C library maps memory for each call, and unmaps it
LENGTHS = struct.Struct("<II")

Message = dict[str, object]  # importing typing would cost a megabyte
_decode = json.JSONDecoder().raw_decode
quoted = json.encoder.encode_basestring_ascii  # text as JSON; messages are few and small, so they are written by hand


class PeerGone(Exception):
    """The other end closed, died or does not speak the protocol."""


class Peer:
    """One connection: frames in, frames out, never blocking."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self._connection = connection
        self.fd = connection.fileno()
        cred = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        self.pid, self.uid, _ = struct.unpack("3i", cred)
        self.hailed = False  # it said hello, and has no answer yet
        self.greeted = False
        self.ended = False  # nothing more will come; what came before is still to be done
        self.awaits = 0  # the epoll mask that is set for it
        self._in = bytearray()
        self._begin = 0  # of the first frame not yet taken
        self._out = bytearray()

    @property
    def waiting(self) -> bool:
        """Is there something still to be sent?"""
        return bool(self._out)

    @property
    def backlog(self) -> bool:
        """Is a whole frame here?"""
        have = len(self._in) - self._begin
        if have < LENGTHS.size:
            return False
        message_bytes, note_bytes = LENGTHS.unpack_from(self._in, self._begin)
        return bool(have >= LENGTHS.size + message_bytes + note_bytes)

    def receive(self) -> bool:
        """Take what is there. False: nothing (more) is; `ended` says whether anything can still come."""
        try:
            data = self._connection.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self.ended = True
            return False
        if self._begin:
            del self._in[: self._begin]
            self._begin = 0
        self._in += data
        return True

    def next_message(self) -> tuple[Message, bytes] | None:
        """The next frame's message and note."""
        if len(self._in) - self._begin < LENGTHS.size:
            return None
        message_bytes, note_bytes = LENGTHS.unpack_from(self._in, self._begin)
        if message_bytes + note_bytes > FRAME_BYTES_MAX:
            raise PeerGone("a frame is too long")
        begin = self._begin + LENGTHS.size
        middle, end = begin + message_bytes, begin + message_bytes + note_bytes
        if end > len(self._in):
            return None
        self._begin = end
        try:
            message, _ = _decode(self._in[begin:middle].decode())
        except (ValueError, RecursionError) as error:
            raise PeerGone(f"not JSON: {error}") from None
        if not isinstance(message, dict):
            raise PeerGone("not an object")
        return message, bytes(self._in[middle:end])

    def queue(self, message: str, note: bytes = b"") -> None:
        data = message.encode()
        self._out += LENGTHS.pack(len(data), len(note)) + data + note

    def flush(self) -> None:
        try:
            sent = self._connection.send(self._out, socket.MSG_NOSIGNAL)
        except BlockingIOError:
            return
        except OSError as error:
            raise PeerGone(str(error)) from None
        del self._out[:sent]

    def close(self) -> None:
        self._connection.close()
