"""The local server of the viewer.

It listens on 127.0.0.1 by default. It answers a request only if the request has the random token of
the address, names a known host, and comes from the server's own page. It writes files only to the
folder that it was given; without a folder, the browser saves downloads.

Predictions and drawings run one after the other in one thread; of the drafts of a drag only the
newest is computed. Kohn-Sham calculations run in a separate thread.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import secrets
import socket
import tempfile
import time
import webbrowser
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from importlib.resources import files
from itertools import count
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from denser.io.files import replacing
from denser.model.predictor import Predictor
from denser.types.density import Density, Field
from denser.types.errors import InputError
from denser.viewer import draw, state
from denser.viewer.export import export, suffixes
from denser.viewer.fields import derived, learned, reduced
from denser.viewer.guard import Guard
from denser.viewer.items import Item, read_items
from denser.viewer.orbitals import kohn_sham
from denser.viewer.session import Session
from denser.viewer.worker import Worker

MAX_UPLOAD = 256 * 2**20
MAX_REQUEST = 2**20
MAX_SESSIONS = 12

_ASSETS = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}


class Viewer:
    """State that the routes share.

    Parameters
    ----------
    items : list of Item
        Items that each new tab opens.
    predictor : Predictor
    token : str
    port : int
    host : str
        Host that the server is bound to.
    folder : Path, optional
        Where files may be saved.
    also : tuple of str
        Names of other hosts under which the page is reached; see `Guard`.
    """

    def __init__(
        self,
        items: list[Item],
        predictor: Predictor,
        token: str,
        port: int,
        host: str = "127.0.0.1",
        folder: Path | None = None,
        also: tuple[str, ...] = (),
    ) -> None:
        self.items, self.predictor, self.token = items, predictor, token
        self.host, self.folder, self.also = host, folder, also
        self.cookie = f"denser_{port}"
        self.sessions: OrderedDict[str, Session] = OrderedDict()
        self.newest: dict[str, int] = {}
        self.quick, self.slow = Worker(), Worker()

    def session(self, request: Request) -> tuple[str, Session]:
        """Name and session that the request's path names."""
        name = request.path_params["session"]
        if name not in self.sessions:
            raise InputError("this tab was idle while many others were opened; reload the page")
        self.sessions.move_to_end(name)
        return name, self.sessions[name]

    # Routes

    async def page(self, _request: Request) -> Response:
        """Return the page itself."""
        text = (files("denser") / "viewer" / "page" / "index.html").read_text("utf-8")
        response = HTMLResponse(text)
        # Without a path the browser takes the folder of the page, also behind a proxy.
        response.set_cookie(self.cookie, self.token, httponly=True, samesite="strict", path=None)
        return response

    async def asset(self, request: Request) -> Response:
        """Return a file of the page."""
        name = request.path_params["name"]
        source = files("denser") / "viewer" / "page" / name
        kind = _ASSETS.get(Path(name).suffix)
        if kind is None or "/" in name or not source.is_file():
            return _refuse("no such file", 404)
        return Response(source.read_bytes(), media_type=kind)

    async def begin(self, _request: Request) -> Response:
        """Create the session of a new tab."""
        name = secrets.token_urlsafe(12)
        self.sessions[name] = await self.quick.run(Session, self.predictor, self.items)
        while len(self.sessions) > MAX_SESSIONS:
            old, _ = self.sessions.popitem(last=False)
            self.newest.pop(old, None)
        formats = suffixes()
        folder = None if self.folder is None else str(self.folder)
        return JSONResponse({"session": name, "formats": formats, "folder": folder})

    async def draw(self, request: Request) -> Response:
        """Apply the edit of the request, if there is one, and draw."""
        name, session = self.session(request)
        body = await _json(request)
        edit, show = _object(body, "edit"), _shown(body)
        draft = bool(body.get("draft"))
        number = self.newest[name] = self.newest.get(name, 0) + 1

        def begin() -> bool:
            if draft and number != self.newest.get(name):
                return False  # a newer position of the atom is known already
            if edit:
                session.edit(edit, draft)
            return True

        if not await self.quick.run(begin):
            return Response(status_code=204)
        await self.prepare(session, show)
        with_state = not body.get("light")
        return _binary(await self.quick.run(draw.message, session, show, with_state))

    async def prepare(self, session: Session, show: dict) -> None:
        """Compute derived fields in the slow thread, so that other requests do not wait.

        Where there are none, the layer that needs them says why.
        """
        density, revision = session.density, session.revision
        if density is None:
            return
        for name in session.wanted(show):
            with suppress(InputError):
                made = await self.slow.run(_derived, name, density, self.predictor)
                await self.quick.run(session.keep, name, *made, revision)
        for name in session.wanted_of_atoms(show):
            with suppress(InputError):
                found = await self.slow.run(learned, name, density, self.predictor)
                await self.quick.run(session.use_learned, found, revision)

    async def open(self, request: Request) -> Response:
        """Read an uploaded file and show its content."""
        _, session = self.session(request)
        name = Path(request.query_params.get("name", "")).name or "upload.xyz"
        show = _shown({"show": _parsed(request.query_params.get("show", "{}"))})
        data = await _body(request, MAX_UPLOAD)

        def work() -> bytes:
            with tempfile.TemporaryDirectory(prefix="denser-") as folder:
                path = Path(folder) / re.sub(r"[^\w.+-]", "_", name)[-80:]
                path.write_bytes(data)
                try:
                    items = read_items(path, name)
                except InputError as error:
                    raise InputError(str(error).replace(str(path), name)) from error
            session.append(items)
            return draw.message(session, show)

        return _binary(await self.quick.run(work))

    async def one_step(self, request: Request) -> Response:
        """Energy and orbitals of the shown molecule."""
        _, session = self.session(request)
        show = _shown(await _json(request))
        density, revision = session.density, session.revision
        if density is None or session.draft:
            raise InputError(session.problem or "there is no density yet to start from")
        density = session.real_density()
        recipe = self.predictor.model.recipe
        result = await self.slow.run(kohn_sham, density, recipe)

        def work() -> bytes:
            session.use_kohn_sham(result, revision)
            session.seconds["one step"] = result.seconds
            return draw.message(session, show)

        return _binary(await self.quick.run(work))

    async def charges(self, request: Request) -> Response:
        """Atomic charges of the shown molecule."""
        _, session = self.session(request)
        density, revision = session.density, session.revision
        if density is None:
            raise InputError(session.problem or "there is no density yet")
        density = session.real_density()
        start = time.perf_counter()
        found = await self.slow.run(state.partition, density)
        await self.quick.run(session.use_charges, found, revision)
        seconds = round(time.perf_counter() - start, 3)
        return JSONResponse({"charges": found, "revision": revision, "seconds": seconds})

    async def points(self, request: Request) -> Response:
        """Critical points of the shown molecule."""
        from denser.analysis.topology.critical_points import critical_points

        _, session = self.session(request)
        show = _shown(await _json(request))
        density, revision = session.density, session.revision
        if density is None or session.draft:
            raise InputError(session.problem or "there is no density yet")
        density = session.real_density()
        start = time.perf_counter()
        result = await self.slow.run(critical_points, density)

        def work() -> bytes:
            session.use_points(result, revision)
            session.seconds["critical points"] = time.perf_counter() - start
            return draw.message(session, show, with_state=False)

        return _binary(await self.quick.run(work))

    async def download(self, request: Request) -> Response:
        """Return a field, the atoms or the numbers as a file."""
        _, session = self.session(request)
        name, data = await self.quick.run(export, session, request.path_params["what"])
        disposition = f'attachment; filename="{name}"'
        return Response(
            data,
            media_type="application/octet-stream",
            headers={"content-disposition": disposition},
        )

    async def save(self, request: Request) -> Response:
        """Write one of the downloads to the server's folder."""
        _, session = self.session(request)
        if self.folder is None:
            raise InputError("saving needs a folder: start with denser view --folder FOLDER")
        name, data = await self.quick.run(export, session, request.path_params["what"])
        if Path(name).name != name:
            raise InputError(f"{name} would be outside {self.folder}")
        saved = await asyncio.to_thread(save_new, self.folder, name, data)
        return JSONResponse({"saved": str(saved)})

    def app(self) -> Starlette:
        """ASGI application."""
        routes = [
            Route("/", self.page),
            Route("/page/{name}", self.asset),
            Route("/api/sessions", self.begin, methods=["POST"]),
            Route("/api/{session}/draw", self.draw, methods=["POST"]),
            Route("/api/{session}/open", self.open, methods=["POST"]),
            Route("/api/{session}/one-step", self.one_step, methods=["POST"]),
            Route("/api/{session}/charges", self.charges, methods=["POST"]),
            Route("/api/{session}/points", self.points, methods=["POST"]),
            Route("/api/{session}/file/{what:path}", self.download),
            Route("/api/{session}/save/{what:path}", self.save, methods=["POST"]),
        ]
        return Starlette(
            routes=routes,
            middleware=[Middleware(Guard, self.token, self.cookie, self.host, self.also)],
            exception_handlers={InputError: _bad_input, Exception: _bug},
        )


def _derived(name: str, density: Density, predictor: Predictor) -> tuple[Field, float]:
    """A derived field, and the seconds that it took."""
    start = time.perf_counter()
    return derived(name, reduced(density), predictor), time.perf_counter() - start


async def _body(request: Request, limit: int) -> bytes:
    parts, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise InputError(f"the file is larger than {limit // 2**20} MB; make it smaller first")
        parts.append(chunk)
    return b"".join(parts)


async def _json(request: Request) -> dict:
    body = _parsed(await _body(request, MAX_REQUEST))
    if not isinstance(body, dict):
        raise InputError("the request is not a JSON object")
    return body


def _parsed(text: str | bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError("the request is not JSON") from error


def _object(body: dict, key: str) -> dict:
    """Object of a request with this key; empty if there is none."""
    value = body.get(key) or {}
    if not isinstance(value, dict):
        raise InputError(f"{key!r} of the request is not a JSON object")
    return value


def _shown(body: dict) -> dict:
    """What a request asks to draw; the layers are objects, and "points" is true or false."""
    show = _object(body, "show")
    layers = {name: _object(show, name) for name in ("surface", "slice", "cells", "atoms")}
    return layers | {"points": bool(show.get("points"))}


def save_new(folder: Path, name: str, data: bytes) -> Path:
    """Save a file under its name, or with a number if the name is taken.

    Raises
    ------
    InputError
        The folder cannot be written.
    """
    stem, suffix = name.split(".", 1)
    for number in count(1):
        path = folder.resolve() / (name if number == 1 else f"{stem}_{number}.{suffix}")
        try:
            with path.open("xb"):  # from now on the name is ours
                pass
        except FileExistsError:
            continue
        except OSError as error:
            raise InputError(f"{path}: cannot be written ({error.strerror})") from error
        try:
            with replacing(path) as temporary:
                temporary.write_bytes(data)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return path
    raise AssertionError("count() does not end")


def _binary(data: bytes) -> Response:
    return Response(data, media_type="application/octet-stream")


def _refuse(reason: str, status: int) -> Response:
    return JSONResponse({"error": reason}, status)


async def _bad_input(_request: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, 400)


async def _bug(_request: Request, error: Exception) -> Response:
    logging.getLogger("denser.viewer").error("a bug; please report it", exc_info=error)
    return JSONResponse({"error": f"the server had an error ({error}), which is a bug"}, 500)


def bind(host: str, port: int) -> socket.socket:
    """Open a socket and listen, so that a browser waits until the server answers.

    Raises
    ------
    InputError
        The port is in use, or the address is not one of this computer.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen()
    except OSError as error:
        listener.close()
        if port and error.errno in (13, 98, 48):
            raise InputError(
                f"port {port} on {host} is in use; choose another with --port (0 takes a free one)"
            ) from error
        raise InputError(f"cannot listen on {host}:{port} ({error.strerror})") from error
    except OverflowError as error:
        listener.close()
        raise InputError(f"port {port} is not between 0 and 65535") from error
    return listener


def serve(
    items: list[Item],
    predictor: Predictor,
    host: str = "127.0.0.1",
    port: int = 0,
    folder: Path | None = None,
    also: tuple[str, ...] = (),
    browser: bool = True,
    tell: Callable[[str], None] = lambda address: None,
) -> None:
    """Serve the viewer until Ctrl-C.

    Parameters
    ----------
    items : list of Item
    predictor : Predictor
    host, port : str, int
        Port 0 chooses a free one.
    folder : Path, optional
        Where files may be saved.
    also : tuple of str
        Names of other hosts under which the page is reached.
    browser : bool
        Whether to open the page.
    tell : callable
        Called with the address.
    """
    if folder is not None and not folder.is_dir():
        raise InputError(f"{folder}: is not a folder; create it first")
    listener = bind(host, port)
    port = listener.getsockname()[1]
    viewer = Viewer(items, predictor, secrets.token_urlsafe(24), port, host, folder, also)
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "::1": "[::1]"}.get(host, host)
    address = f"http://{shown}:{port}/?token={viewer.token}"
    config = uvicorn.Config(
        viewer.app(),
        ws="none",
        lifespan="off",
        log_level="critical",
        access_log=False,
        timeout_graceful_shutdown=1,
    )
    tell(address)
    if browser:
        webbrowser.open(address)
    try:
        uvicorn.Server(config).run(sockets=[listener])
    except KeyboardInterrupt:
        pass  # uvicorn passes Ctrl-C on once it has closed
    finally:
        viewer.quick.close()
        viewer.slow.close()
        listener.close()
