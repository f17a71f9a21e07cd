"""Who may ask: this machine's own page and programs, or whoever has the token."""

import hmac
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


class Guard:
    """Stands before an application of ASGI.

    Other pages in the same browser are kept out by Host (a name of theirs that leads to this machine) and by
    Origin (what they send here); other machines by the token.
    """

    def __init__(self, app: Application, hosts: frozenset[str], token: str | None) -> None:
        """Stand there.

        Args:
            app: What is guarded.
            hosts: What Host may be; without any, whatever it is.
            token: What has to be known for anything below /v1, if that is not for all.
        """
        self._app, self._hosts, self._token = app, hosts, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                named = {name.lower() for name, _ in message.get("headers", ())}
                added = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]
                message["headers"] = [
                    *message.get("headers", ()),
                    *((name, value) for name, value in added if name not in named),
                ]
            await send(message)

        refused = self._refusal(scope)
        if refused is None:
            await self._app(scope, receive, send_guarded)
            return
        status, reason = refused
        headers = [(b"content-type", b"application/json")]
        if status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        await send_guarded({"type": "http.response.start", "status": status, "headers": headers})
        await send_guarded({"type": "http.response.body", "body": json.dumps({"error": reason}).encode()})

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        """Why a request is refused, if it is."""
        given: dict[str, list[str]] = {}
        for name, value in scope["headers"]:
            given.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
        host = given.get("host", [])
        if len(host) != 1 or (self._hosts and host[0].lower() not in self._hosts):
            return 421, "this server goes by another name; use the address that it has printed"
        schemes = ("http",) if self._token is None else ("http", "https")  # of a proxy with TLS
        own = [f"{scheme}://{host[0]}" for scheme in schemes]
        origins = given.get("origin", own[:1])
        if scope["method"] not in ("GET", "HEAD") and (len(origins) != 1 or origins[0] not in own):
            return 403, "another site's page may not send anything here"
        if self._token is not None and scope["path"].startswith("/v1"):
            shown = given.get("authorization", [""])[0]
            if not hmac.compare_digest(shown.encode(), f"Bearer {self._token}".encode()):
                return 401, "the token is missing or wrong; the link that the server has printed has it"
        return None
