"""Files as answers, also parts of them."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from esc_sr.app.guard import Message, Receive, Scope, Send
from esc_sr.app.limits import RefusalError

if TYPE_CHECKING:
    from fastapi.responses import FileResponse

_REFUSED = {400: "the header Range cannot be read", 416: "no such part of the file"}


def sent(path: Path, **about: Any) -> "FileResponse":
    """A file as an answer, or the part that is asked for; `RefusalError` where that is none.

    Raises:
        FileNotFoundError: It was removed meanwhile.
    """
    from fastapi.responses import FileResponse

    class SentFile(FileResponse):
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            async def send_unless_refused(message: Message) -> None:
                status = message.get("status")
                if status in _REFUSED:  # in plain text
                    raise RefusalError(status, _REFUSED[status])
                await send(message)

            await super().__call__(scope, receive, send_unless_refused)

    return SentFile(path, stat_result=path.stat(), **about)
