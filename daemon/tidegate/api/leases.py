"""Leases: units of shared resources for a process. Sees that it is one of the asker's; withdraws what nobody waits for.

The end of a holder ends its lease: the daemon watches for that (Control), in this life and the next.
"""

import asyncio
import os
import signal
from pathlib import Path
from typing import Final

from starlette.responses import Response

from tidegate.api.control import Control
from tidegate.api.problem import problem
from tidegate.api.shapes import LeaseBody
from tidegate.api.streamed import disconnected
from tidegate.api.table import Call, json_response
from tidegate.model.refusal import Refused
from tidegate.model.text import escape
from tidegate.model.view import LeaseView

WAITS_MAX: Final = 50  # each has a connection, and others need some


class Holder:
    """A process that holds or asks. Known by pidfd: its pid may become another's, the descriptor never does."""

    def __init__(self, pid: int) -> None:
        """Raises OSError where there is no such process."""
        self.pid = pid
        self._descriptor = os.pidfd_open(pid)

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""
        try:
            signal.pidfd_send_signal(self._descriptor, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True

    @property
    def described(self) -> str:
        """For people: pid 812 (pg_dump)."""
        try:
            name = escape(Path(f"/proc/{self.pid}/comm").read_text("utf-8", "replace").rstrip("\n"))
        except OSError:
            return f"pid {self.pid}"
        return f"pid {self.pid} ({name})"

    def uid(self) -> int | None:
        """Its real user. None: it has ended."""
        try:
            lines = Path(f"/proc/{self.pid}/status").read_text("utf-8", "replace").splitlines()
        except OSError:
            return None
        found = next((line for line in lines if line.startswith("Uid:")), None)
        return int(found.split()[1]) if found and self.alive else None

    def close(self) -> None:
        """Look at it no more."""
        os.close(self._descriptor)


class Leases:
    """The handlers."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._waits: set[asyncio.Future[LeaseView]] = set()

    async def acquire(self, call: Call) -> Response:
        """POST /api/v1/leases: answers when they are granted, or were not in time."""
        body: LeaseBody = call.body
        if len(self._waits) >= WAITS_MAX:
            return problem(503, f"{WAITS_MAX} requests wait for leases already", {"retry-after": "5"})
        holder = holder_of(call, body.pid)
        try:
            lease = await self._granted(call, body, holder)
            if lease is not None and lease.state == "granted" and not holder.alive:
                # It may have ended before the daemon began to watch, and another may have its pid by now.
                lease = await self._control.release(lease.lease_id, f"its holder, pid {holder.pid}, ended")
        finally:
            holder.close()
        if lease is None:
            return problem(409, "who asked has gone: the request is withdrawn")
        if lease.state != "granted":
            return problem(409, lease.reason or "the units were not free in time", lease=lease)
        return json_response(lease, 201)

    async def _granted(self, call: Call, body: LeaseBody, holder: Holder) -> LeaseView | None:
        """The lease; None where the client went before it was granted."""
        name = f"{holder.described}, asked by {call.caller.name}"
        asking = asyncio.ensure_future(self._control.acquire(body.uses, name, holder.pid, body.wait_s))
        gone = asyncio.create_task(disconnected(call.request.receive))
        self._waits.add(asking)
        try:
            await asyncio.wait((asking, gone), return_when=asyncio.FIRST_COMPLETED)
            if asking.cancelled():
                raise Refused("unavailable", "the daemon is ending")
            if asking.done():
                return asking.result()
            asking.cancel()  # which withdraws the request
            await asyncio.wait((asking,))
            if not asking.cancelled() and asking.exception() is None:  # it was granted at that very moment
                await self._control.release(asking.result().lease_id, "who asked has gone")
            return None
        finally:
            self._waits.discard(asking)
            gone.cancel()

    async def release(self, call: Call) -> Response:
        """DELETE /api/v1/leases/{id}."""
        lease_id = call.part("id")
        if self._control.lease(lease_id) is None:
            raise Refused("not_found", f'there is no lease "{escape(lease_id)}", or it has ended')
        return json_response(await self._control.release(lease_id, f"given back by {call.caller.name}"))

    async def close(self) -> None:
        """Withdraw what waits. What is granted stays granted: the next daemon finds it."""
        waits = list(self._waits)
        for asking in waits:
            asking.cancel()
        if waits:
            await asyncio.wait(waits)


def holder_of(call: Call, pid: int | None) -> Holder:
    """The process that the lease will belong to. Raises Refused."""
    peer = call.caller.peer
    if pid is None and not peer.pid:
        where = "it is in another pid namespace" if peer.local else "over TCP nobody knows which process asks"
        raise Refused("invalid", f"a lease belongs to a process, and {where}: name one of this machine as pid")
    try:
        holder = Holder(pid or peer.pid)
    except (OSError, OverflowError) as error:
        raise Refused("conflict", f"there is no process {pid or peer.pid}") from error
    if not peer.local or peer.uid == 0:
        return holder
    if holder.uid() != peer.uid:
        holder.close()
        raise Refused("conflict", f"process {pid} is not one of yours: a lease belongs to one that is")
    return holder
