"""A picture that a client sends, into a file, as long as it is neither too large nor too slow."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from esc_sr.app.limits import Limits, RefusalError


def size_sent(length: str | None, limits: Limits) -> int:
    """How many bytes come at most, by what the client says of it.

    Raises:
        RefusalError: Too many, or none.
    """
    if length is None:
        return limits.file_bytes
    if not length.isascii() or not length.isdigit() or int(length[:20]) > limits.file_bytes:
        raise RefusalError(413, f"a file of {length[:20]} bytes; at most {limits.file_bytes} are taken")
    return int(length)


async def receive(body: AsyncIterator[bytes], path: Path, limits: Limits) -> None:
    """Write the body of a request into a new file.

    Of what is too large, the end is awaited for a while, since clients read no answer before.

    Raises:
        RefusalError: It is empty, too large or too slow, or the disk is full.
    """
    size, too_large = 0, f"more than {limits.file_bytes} bytes, which are taken at most"
    try:
        async with asyncio.timeout(limits.upload_seconds):
            with open(path, "xb") as file:
                while True:
                    async with asyncio.timeout(limits.idle_seconds):
                        piece = await anext(body, None)
                    if piece is None:
                        break
                    size += len(piece)
                    if size <= limits.file_bytes:
                        file.write(piece)
                    elif size > 2 * limits.file_bytes:
                        raise RefusalError(413, too_large, True)
    except TimeoutError as error:
        raise RefusalError(408, "the picture came too slowly", True) from error
    except OSError as error:
        raise RefusalError(507, f"the picture cannot be kept ({error.strerror})") from error
    if size > limits.file_bytes:
        raise RefusalError(413, too_large)
    if size == 0:
        raise RefusalError(400, "no picture came; send the bytes of its file as the body")
