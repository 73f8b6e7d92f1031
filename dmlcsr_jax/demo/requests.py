"""Which requests the page answers: its own, called by its own names, of bounded size."""

import ipaddress
import socket
import urllib.parse
from collections.abc import Collection
from typing import Any

# Whatever a page's parts would fetch from elsewhere, browsers refuse.
_POLICY = (
    "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; object-src 'none'; form-action 'self'; base-uri 'self'"
)
# Gradio answers many more, of which this page has no use.
_POSTED = ("upload", "queue/join", "call/", "cancel", "reset")
_PREFIX = "/gradio_api/"
# Of an upload beside the file, and of any other request.
_BESIDE_BYTES = 2**20


class OwnFilesAlone:
    """ASGI middleware: every answer tells browsers to ask no other host for anything."""

    def __init__(self, app: Any):
        self._app = app

    async def __call__(self, scope, receive, send) -> None:
        """Answers a request."""

        async def send_with_policy(message) -> None:
            if message["type"] == "http.response.start":
                headers = [*message.get("headers", ())]
                headers.append((b"content-security-policy", _POLICY.encode()))
                headers.append((b"referrer-policy", b"no-referrer"))
                message = {**message, "headers": headers}
            await send(message)

        await self._app(scope, receive, send_with_policy)


class OwnRequestsAlone:
    """ASGI middleware: refuses what no visitor of this page asks.

    A foreign page can have its name lead to this machine, and its visitors' browsers then ask here
    by that name; or send a form here, which the browser marks with its origin.
    """

    def __init__(self, app: Any, names: Collection[str], proxies: Collection[str], most_bytes: int):
        self._app = app
        self._names = {*names, *proxies}
        self._proxies = proxies
        self._most_bytes = most_bytes

    async def __call__(self, scope, receive, send) -> None:
        """Answers a request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        refusal = (404, "not found") if scope["type"] != "http" else self._refusal(scope)
        if refusal is None:
            await self._app(scope, receive, send)
            return
        status, sentence = refusal
        headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": sentence.encode()})

    def _refusal(self, scope) -> tuple[int, str] | None:
        """Returns status and sentence where a request is refused."""
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        host = headers.get(b"host", "")
        if not self._is_known(host):
            return 403, "this page has another name; its --host_name can add this one."
        if scope["method"] in ("GET", "HEAD", "OPTIONS"):
            return None
        origin = headers.get(b"origin")
        if origin is not None:
            of = urllib.parse.urlsplit(origin).netloc
            if of != host and _name_of(of) not in self._proxies:
                return 403, "another page may not ask here."
        path = scope["path"]
        if scope["method"] != "POST" or not path.startswith(
            tuple(_PREFIX + posted for posted in _POSTED)
        ):
            return 404, "not found"
        length = headers.get(b"content-length", "")
        if not length.isdecimal():
            return 411, "say the request's length."
        is_upload = path.rstrip("/") == f"{_PREFIX}upload"
        if int(length) > _BESIDE_BYTES + is_upload * self._most_bytes:
            return 413, f"the file exceeds the maximum of {self._most_bytes:,} bytes."
        return None

    def _is_known(self, host: str) -> bool:
        name = _name_of(host)
        return name in self._names or _is_address(name)


def own_names(host: str) -> tuple[str, ...]:
    """Returns the names of a page that listens at `host`; its addresses need no list."""
    full = socket.gethostname().lower()
    short = full.partition(".")[0]
    return ("localhost", full, short, f"{short}.local", host.lower())


def _name_of(host: str) -> str:
    """Returns the name in HOST or HOST:PORT; "" where there is none."""
    try:
        return (urllib.parse.urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
