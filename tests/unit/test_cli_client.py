"""What a command makes of the bytes that come from the socket."""

import socket

import pytest

from tidegate.cli import client


def exchanged(*pieces: bytes) -> client._Exchange:
    here, there = socket.socketpair()
    with here, there:
        for piece in pieces:
            there.sendall(piece)
        there.shutdown(socket.SHUT_WR)
        exchange = client._Exchange(here, "POST", "/x", b"{}", {"Accept": "a"})
        sent = there.recv(4096)
        assert sent.startswith(b"POST /x HTTP/1.1\r\nHost: localhost\r\n") and sent.endswith(b"\r\n\r\n{}")
        assert b"Content-Length: 2\r\n" in sent
        exchange.received = exchange.body()  # type: ignore[attr-defined]  # while the sockets are open
        return exchange


HEAD = b"HTTP/1.1 200 OK\r\nserver: x\r\n"


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (HEAD + b"Content-Length: 5\r\n\r\nhello and more", b"hello"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n3;a=b\r\nhel\r\nA\r\nlo, it is \r\n0\r\n\r\n", b"hello, it is "),
        (HEAD + b"\r\nuntil the end", b"until the end"),
        (HEAD + b"content-length: 0\r\n\r\n", b""),
    ],
)
def test_an_answer_is_whole_however_its_length_is_told(answer, body):
    exchange = exchanged(answer)
    assert (exchange.status, exchange.received) == (200, body)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 20",
        HEAD + b"content-le",
        HEAD + b"Content-Length: 5\r\n\r\nhell",
        HEAD + b"Content-Length: five\r\n\r\nhello",
        HEAD + b"Content-Length: -5\r\n\r\nhello",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\nhe",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFF\r\nhel\r\n",
        b"x" * (client.LINE_BYTES_MAX + 1),
    ],
)
def test_one_that_is_broken_or_cut_short_is_never_taken_for_whole(answer):
    with pytest.raises(OSError):
        exchanged(answer)
