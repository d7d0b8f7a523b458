"""The control socket: takes its place in the file system, and hands it to the same server as TCP. It knows no route."""

from pathlib import Path

from starlette.types import ASGIApp

from tidegate.api.serve import Server
from tidegate.model.plan import ControlSettings


async def serve_unix(app: ASGIApp, path: Path, settings: ControlSettings) -> Server:
    """Listen on the control socket. Raises ListenError.

    `path.parent` must let members of the operators group through: mode 0711 is enough.
    """
    raise NotImplementedError
