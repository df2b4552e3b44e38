"""Checks of requests to the server: the token, the host name, and the origin.

Localhost is accepted with any port: `ssh -L 9000:127.0.0.1:8765` changes the port, and proxies
such as jupyter-server-proxy pass the port of their own server on.
"""

from __future__ import annotations

import hmac
import ipaddress
import socket
from collections.abc import Collection
from typing import Any
from urllib.parse import SplitResult, urlsplit

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; connect-src 'self'; worker-src 'self' blob:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)


class Guard:
    """Accepts a request if it has the token, names our host and comes from our page.

    Parameters
    ----------
    app : ASGIApp
    token, cookie : str
        The token, and the name of the cookie that holds it.
    host : str
        Address that the server is bound to.
    also : tuple of str
        Names of other hosts under which the page is reached, such as that of a JupyterHub.
    """

    def __init__(
        self, app: ASGIApp, token: str, cookie: str, host: str, also: tuple[str, ...] = ()
    ) -> None:
        self.app, self.token, self.cookie, self.host = app, token, cookie, host
        self.also = {name.lower() for name in also}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        reason = self.objection(Request(scope))
        if reason:
            return await JSONResponse({"error": reason}, 403)(scope, receive, send)

        async def guarded(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message["headers"],
                    (b"content-security-policy", _POLICY.encode()),
                    (b"x-content-type-options", b"nosniff"),
                    (b"referrer-policy", b"no-referrer"),
                    (b"cache-control", b"no-store"),
                ]
            await send(message)

        return await self.app(scope, receive, guarded)

    def objection(self, request: Request) -> str:
        """The reason why a request is refused; empty if it is accepted."""
        host = request.headers.get("host", "")
        if not known_host(host, self.host, self.also):
            return (
                "the viewer does not answer to this host name; if it is that of your own proxy, "
                "start with denser view --allow-host NAME"
            )
        origin = request.headers.get("origin")
        if origin is not None and not self.own_page(origin, host):
            return "this request comes from another page"
        if request.method not in ("GET", "HEAD") and origin is None:
            return "this request does not come from the viewer's page"
        given = request.cookies.get(self.cookie, "")
        if request.url.path == "/" and "token" in request.query_params:
            given = request.query_params["token"]
        if not hmac.compare_digest(given.encode(), self.token.encode()):
            return "the token is missing or wrong; use the address that denser view printed"
        return ""

    def own_page(self, origin: str, host: str) -> bool:
        """Whether an Origin header is that of the page; a proxy may have changed the Host."""
        parts = _parts(origin)
        return parts is not None and (parts.netloc == host or parts.hostname in self.also)


def _parts(address: str) -> SplitResult | None:
    """Parts of an address; None if it is not one."""
    try:
        parts = urlsplit(address)
        _ = parts.port  # raises if it is no number
    except ValueError:
        return None
    return parts


def known_host(header: str, bound: str, also: Collection[str] = ()) -> bool:
    """Whether a Host header names this server, with any port.

    Other names that point to it by DNS do not count, unless they are in `also`.
    """
    parts = _parts(f"//{header}")
    if parts is None:
        return False
    name = (parts.hostname or "").lower()
    if name in {"localhost", "127.0.0.1", "::1", bound.lower(), *also}:
        return True
    if bound not in ("0.0.0.0", "::"):
        return False
    try:
        ipaddress.ip_address(name)
        return True
    except ValueError:
        return name == socket.gethostname().lower()
