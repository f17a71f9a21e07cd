"""One Upscaler for the requests of a web service, as docs/api.md shows it."""

import asyncio
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import esc_sr

PAGE = (Path(__file__).parents[1] / "docs" / "api.md").read_text()
(EXAMPLE,) = (code for code in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "asyncio" in code)


def png(side: int, seed: int) -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


class Counting:
    """An Upscaler that counts what it reports."""

    def __init__(self) -> None:
        self.inner = esc_sr.Upscaler("esc-light", scale=2)
        self.reports = 0
        self.begun = asyncio.Event()
        self.loop = asyncio.get_running_loop()
        self.ended = ""

    def upscale(self, data: bytes, progress: Callable[[float], object]) -> Any:
        def count(done: float) -> None:
            self.reports += 1
            self.loop.call_soon_threadsafe(self.begun.set)
            progress(done)

        try:
            return self.inner.upscale(data, count)
        except InterruptedError as error:
            self.ended = str(error)
            raise


@pytest.fixture(scope="module")
def example() -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(compile(EXAMPLE, "docs/api.md", "exec"), names)
    return names


def test_requests_at_once_have_the_result_of_one(example: dict[str, Any]) -> None:
    async def serve() -> list[Any]:
        return await asyncio.gather(*(example["enlarge"](png(24, seed)) for seed in range(3)))

    for seed, found in enumerate(asyncio.run(serve())):
        assert np.array_equal(found, example["upscaler"].upscale(png(24, seed)))


def test_who_leaves_frees_the_network(example: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    async def serve(leaves: bool) -> Counting:
        upscaler = Counting()
        monkeypatch.setitem(example, "upscaler", upscaler)
        request = asyncio.create_task(example["enlarge"](png(160, 0)))
        begun = asyncio.create_task(upscaler.begun.wait())
        await asyncio.wait({request, begun}, return_when=asyncio.FIRST_COMPLETED)
        begun.cancel()
        if leaves:
            request.cancel()
            with pytest.raises(asyncio.CancelledError):
                await request
        else:
            await request
        await asyncio.get_running_loop().shutdown_default_executor()
        return upscaler

    whole, left = (asyncio.run(serve(leaves)) for leaves in (False, True))
    assert whole.ended == "" and left.ended == "nobody waits for this picture"
    assert left.reports < whole.reports / 2
