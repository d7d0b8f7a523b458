"""Many clients in one process, each asking without a pause. Run by the benchmarks, never imported.

    crowd.py SOCKET CLIENTS SPAN_S PATH...

Each keeps its connection over the Unix socket and asks for the PATHs by turns. Prints JSON: how many were answered,
how many connections the server cut, and how long answers took. Reads no more of an answer than where it ends.
"""

import json
import selectors
import socket
import sys
import time


class Client:
    def __init__(self, path: str, requests: list[bytes], turn: int) -> None:
        self.path = path
        self.requests = requests
        self.turn = turn
        self.connect()

    def connect(self) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.connect(self.path)

    def ask(self) -> None:
        self.received = bytearray()
        self.asked_s = time.monotonic()
        self.socket.sendall(self.requests[self.turn % len(self.requests)])
        self.turn += 1

    def receive(self) -> bool:
        """True: the whole answer is there. Raises ConnectionError where the server has cut it, or refuses."""
        piece = self.socket.recv(1 << 20)
        if not piece:
            raise ConnectionError("cut")
        self.received += piece
        head_end = self.received.find(b"\r\n\r\n")
        if head_end < 0:
            return False
        if not self.received.startswith(b"HTTP/1.1 200"):
            raise ConnectionError(self.received[:200].decode(errors="replace"))
        head = bytes(self.received[:head_end]).lower()
        at = head.find(b"content-length:")
        if at < 0:  # in chunks
            return self.received.endswith(b"0\r\n\r\n")
        size = int(head[at + 15 :].split(b"\r\n", 1)[0])
        return len(self.received) >= head_end + 4 + size


def main() -> None:
    path, clients, span_s, *asked = sys.argv[1:]
    requests = [f"GET {one} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode() for one in asked]
    ready = selectors.EpollSelector()
    for number in range(int(clients)):
        client = Client(path, requests, number)
        ready.register(client.socket, selectors.EVENT_READ, client)
        client.ask()
    took_ms: list[float] = []
    cut: dict[str, int] = {}
    begin_s = time.monotonic()
    while (now_s := time.monotonic()) < begin_s + float(span_s):
        for key, _ in ready.select(0.1):
            client = key.data
            try:
                if not client.receive():
                    continue
                took_ms.append((time.monotonic() - client.asked_s) * 1000)
                client.ask()
            except OSError as error:
                cut[str(error)] = cut.get(str(error), 0) + 1
                ready.unregister(client.socket)
                client.socket.close()
                client.connect()
                ready.register(client.socket, selectors.EVENT_READ, client)
                client.ask()
    took_ms.sort()
    found = {
        "answers": len(took_ms),
        "per_s": round(len(took_ms) / (now_s - begin_s), 1),
        "p50_ms": round(took_ms[len(took_ms) // 2], 2),
        "p99_ms": round(took_ms[len(took_ms) * 99 // 100], 2),
        "cut": cut,
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
