"""What an Upscaler takes and gives back: any kind, any size and mode, from several threads."""

import io
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pyvips
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image
from torch import Tensor, nn

import esc_sr
from esc_sr.errors import ImageError, UsageError
from esc_sr.families.esc import ESC, ESCConfig
from esc_sr.image import Picture, decode_image, read_image, write_image
from esc_sr.machine.precision import PRECISIONS
from esc_sr.upscaling import models, work
from esc_sr.upscaling.engine import Upscaler
from esc_sr.upscaling.files import Job
from esc_sr.upscaling.sizes import Size
from pictures import SRGB, pillow, silent, smooth
from upscaled import upscale_file

TINY = ESCConfig(dim=8, pdim=4, n_blocks=1, n_convattn=1, window=8, heads=2, kernel=5)


CMYK_PROFILE: bytes = pyvips.Image.profile_load("cmyk")


def tiny() -> ESC:
    torch.manual_seed(0)
    return ESC(TINY).eval()


NETWORK = tiny()


def noise(*shape: int, dtype: Any = np.uint8, seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).random(shape)
    return (
        values.astype(dtype) if np.dtype(dtype).kind == "f" else (values * np.iinfo(dtype).max).astype(dtype)
    )


MODES = st.fixed_dictionaries(
    {
        "self_ensemble": st.booleans(),
        "precision": st.sampled_from(list(PRECISIONS)),
        "scale": st.sampled_from([1, 1.3, 2]),
    }
)


@settings(max_examples=30, deadline=None)
@given(
    height=st.integers(1, 80),
    width=st.integers(1, 80),
    channels=st.integers(1, 4),
    dtype=st.sampled_from([np.uint8, np.uint16, np.float32]),
    mode=MODES,
)
def test_a_file_becomes_what_its_pixels_become(
    height: int, width: int, channels: int, dtype: Any, mode: dict[str, Any]
) -> None:
    pixels, upscaler = noise(height, width, channels, dtype=dtype), Upscaler(NETWORK, device="cpu", **mode)
    sr = upscaler.upscale(pixels)
    scale = mode["scale"]
    assert (sr.shape, sr.dtype) == ((round(height * scale), round(width * scale), channels), dtype)
    with tempfile.TemporaryDirectory() as folder:
        suffix = "tif" if dtype == np.float32 else "png"
        source, target = (Path(folder, f"{name}.{suffix}") for name in ("source", "target"))
        write_image(Picture(pixels), source)
        outcome = upscale_file(Job(source, target), upscaler)
        assert (outcome.size, outcome.target_size) == ((height, width), sr.shape[:2])
        np.testing.assert_array_equal(read_image(target).pixels, sr)


@settings(max_examples=12, deadline=None)
@given(
    size=st.tuples(st.integers(1, 80), st.integers(1, 80)),
    batch=st.sampled_from([(), (1,), (2,)]),
    dtype=st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]),
    mode=MODES,
)
def test_a_tensor_stays_a_tensor(
    size: tuple[int, int], batch: tuple[int, ...], dtype: torch.dtype, mode: dict[str, Any]
) -> None:
    sr = Upscaler(NETWORK, device="cpu", **mode).upscale(torch.rand(*batch, 3, *size).to(dtype))
    scale = mode["scale"]
    assert (sr.shape, sr.dtype) == ((*batch, 3, round(size[0] * scale), round(size[1] * scale)), dtype)
    assert 0 <= sr.min() and sr.max() <= 1


def test_float64_is_float32_in_another_coat() -> None:
    pixels = noise(7, 9, 3, dtype=np.float64)
    sr = esc_sr.upscale(pixels, NETWORK)
    assert sr.dtype == np.float64
    np.testing.assert_array_equal(sr, esc_sr.upscale(pixels.astype(np.float32), NETWORK))
    assert esc_sr.upscale(pixels[:, :, 0], NETWORK).shape == (14, 18)


def test_a_path_gives_pixels(tmp_path: Path) -> None:
    pixels = noise(6, 5, 3)
    write_image(Picture(pixels), tmp_path / "a.png")
    upscaler = esc_sr.Upscaler(NETWORK)
    np.testing.assert_array_equal(upscaler.upscale(tmp_path / "a.png"), upscaler.upscale(pixels))


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "I;16"])
def test_a_pil_image_stays_one(mode: str) -> None:
    channels = {"L": (), "LA": (2,), "RGB": (3,), "RGBA": (4,), "I;16": ()}[mode]
    pixels = noise(6, 9, *channels, dtype=np.uint16 if mode == "I;16" else np.uint8)
    image = Image.fromarray(pixels)
    image.info = {"icc_profile": SRGB, "dpi": (300, 300), "exif": b"Exif\0\0", "gamma": 0.45}
    sr = esc_sr.upscale(image, NETWORK)
    assert (sr.mode, sr.size) == (mode, (18, 12))
    assert sr.info == {"icc_profile": SRGB, "dpi": (300, 300), "exif": b"Exif\0\0"}
    np.testing.assert_array_equal(np.asarray(sr), esc_sr.upscale(pixels, NETWORK))


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_a_pil_image_is_saved_with_what_it_keeps(tmp_path: Path, suffix: str) -> None:
    """As docs/api.md has it."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    data = pillow(
        Image.fromarray(noise(6, 9, 3, dtype=np.uint8)), "JPEG", icc_profile=SRGB, exif=exif, dpi=(300, 300)
    )
    larger = esc_sr.upscale(Image.open(io.BytesIO(data)), NETWORK)
    about = {key: larger.info[key] for key in ("icc_profile", "exif", "xmp", "dpi") if key in larger.info}
    larger.save(tmp_path / f"a{suffix}", quality=95, **about)
    back = read_image(tmp_path / f"a{suffix}")
    assert back.icc == SRGB and back.pixels.shape == (18, 12, 3)


@pytest.mark.parametrize(("mode", "becomes"), [("1", "L"), ("P", "RGB"), ("PA", "RGBA"), ("RGBa", "RGBA")])
def test_other_pil_images_are_converted(mode: str, becomes: str) -> None:
    image = Image.fromarray(noise(6, 9, 4)).convert("RGBa" if mode == "RGBa" else "RGB").convert(mode)
    sr = esc_sr.upscale(image, NETWORK)
    np.testing.assert_array_equal(np.asarray(sr), esc_sr.upscale(np.asarray(image.convert(becomes)), NETWORK))


def test_a_transparent_colour_becomes_alpha() -> None:
    image = Image.new("P", (8, 6))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.paste(1, (4, 0, 8, 6))
    image.info["transparency"] = 0
    sr = esc_sr.upscale(image, NETWORK)
    assert (sr.mode, "transparency" in sr.info) == ("RGBA", False)
    assert np.asarray(sr)[6, [0, -1], 3].tolist() == [0, 255]


@pytest.mark.parametrize("mode", ["YCbCr", "F", "I"])
def test_pil_images_that_are_refused(mode: str) -> None:
    with pytest.raises(UsageError, match=f"mode {mode}; convert it to L, LA") as caught:
        esc_sr.upscale(Image.new(mode, (4, 4)), NETWORK)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("options", [{}, {"icc_profile": CMYK_PROFILE}])
def test_a_cmyk_image_becomes_srgb_as_its_file_does(options: dict[str, Any]) -> None:
    data = pillow(Image.fromarray(smooth(3)).convert("CMYK"), "JPEG", quality=100, **options)
    image = Image.open(io.BytesIO(data))
    assert image.mode == "CMYK"
    sr = esc_sr.upscale(image, nn.Identity(), 1)
    assert (sr.mode, sr.info.keys() & {"icc_profile"}) == ("RGB", set())
    file = decode_image(data, "a", notify=silent).pixels
    assert np.abs(np.asarray(sr).astype(int) - file).max() <= 2  # two decoders


@pytest.mark.parametrize("format", ["GIF", "WEBP", "TIFF"])
def test_an_animated_image_is_refused_and_its_frames_are_taken(format: str) -> None:
    frames = [Image.fromarray(noise(8, 9, 3, seed=seed)) for seed in range(3)]
    image = Image.open(io.BytesIO(pillow(frames[0], format, save_all=True, append_images=frames[1:])))
    with pytest.raises(UsageError, match=r"3 frames; pass a copy of each .*image\.copy\(\)"):
        esc_sr.upscale(image, NETWORK)
    image.seek(1)
    assert esc_sr.upscale(image.copy(), NETWORK).size == (18, 16)


def test_a_photo_with_a_second_picture_beside_it_is_one() -> None:
    first, second = (Image.fromarray(noise(8, 9, 3, seed=seed)) for seed in range(2))
    image = Image.open(io.BytesIO(pillow(first, "MPO", save_all=True, append_images=[second])))
    assert (image.format, getattr(image, "n_frames", 1)) == ("MPO", 2)
    assert esc_sr.upscale(image, NETWORK).size == (18, 16)


def test_bytes_and_file_objects_are_read_as_files(tmp_path: Path) -> None:
    path = tmp_path / "two words ü.png"
    write_image(Picture(noise(6, 5, 3, dtype=np.uint16)), path)
    data, expected = path.read_bytes(), esc_sr.upscale(path, NETWORK)
    with open(path, "rb") as file:
        given: list[Any] = [data, bytearray(data), memoryview(data), io.BytesIO(data), file, path.as_uri()]
        for image in given:
            np.testing.assert_array_equal(esc_sr.upscale(image, NETWORK), expected)


@pytest.mark.parametrize(
    ("image", "error", "said"),
    [
        (io.BytesIO(b""), UsageError, r"<BytesIO>: nothing to read; .*seek\(0\)"),
        (io.StringIO("text"), UsageError, "<StringIO> gives text; open it in binary"),
        (b"no picture", ImageError, "cannot read <bytes>: not a complete"),
        ("nowhere://bucket/a.png", UsageError, "nowhere://bucket/a.png: no kind of address"),
        ("memory://none/a.png", ImageError, "memory://none/a.png: cannot be read .no such file or folder."),
        ("file://elsewhere/a.png", UsageError, "a file on another machine"),
    ],
)
def test_what_cannot_be_read_is_one_line(image: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said) as caught:
        esc_sr.upscale(image, NETWORK)
    assert "\n" not in str(caught.value)


def test_pillow_is_not_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)  # an import of it fails
    assert esc_sr.upscale(noise(4, 4), NETWORK).shape == (8, 8)
    unknown: Any = [[1, 2]]
    with pytest.raises(UsageError, match="tensor or a PIL image"):
        esc_sr.upscale(unknown, NETWORK)


def test_half_precision_of_the_network_is_not_that_of_the_levels() -> None:
    grey = np.arange(0, 65536, 16, dtype=np.uint16).reshape(64, 64)
    np.testing.assert_array_equal(esc_sr.upscale(grey, nn.Identity(), 1, precision="bf16"), grey)


class Overflowing(nn.Module):
    """Overflows float16 in its products, and nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1, bias=False)
        nn.init.constant_(self.conv.weight, 6e4)

    def forward(self, lr: Tensor) -> Tensor:
        return self.conv(lr) / 1.8e5


@pytest.mark.parametrize(
    "options", [{"scale": 2}, {"scale": 1.5, "precision": "bf16"}, {"self_ensemble": True}]
)
def test_threads_share_an_upscaler(options: dict[str, Any]) -> None:
    pictures = [noise(20 + seed, 60 - 3 * seed, 3, seed=seed) for seed in range(6)]
    alone = [Upscaler(NETWORK, **options).upscale(picture) for picture in pictures]
    shared = Upscaler(NETWORK, **options)
    with ThreadPoolExecutor(3) as pool:
        for expected, sr in zip(alone, pool.map(shared.upscale, pictures), strict=True):
            np.testing.assert_array_equal(sr, expected)


def test_threads_are_told_once() -> None:
    told: list[str] = []
    upscaler = Upscaler(Overflowing(), 1, precision="fp16", notify=told.append)
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(upscaler.upscale, [np.full((4, 4, 3), 200, np.uint8)] * 9))
    assert told == ["fp16 overflowed in the network; done again in fp32"]


def test_threads_load_a_network_once(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[int | None] = []

    def load(name: str, device: torch.device, scale: int | None, **engine: object) -> nn.Module:
        loaded.append(scale)
        return tiny()

    monkeypatch.setattr(models, "load", load)
    upscaler = Upscaler("esc-light", Size("width", 16))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(upscaler.upscale, [noise(4, 8)] * 8))
    assert loaded == [2]


def test_files_of_hours_of_work_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(noise(80, 90, 3)).save(path)
    monkeypatch.setattr(work, "MAX_WORK", 80 * 90 - 1)
    given: list[Any] = [path, str(path), path.read_bytes()]
    for file in given:
        with pytest.raises(ImageError, match="1 x 90 x 80 pixels are hours of work.*allow_large=True"):
            esc_sr.upscale(file, NETWORK)
        assert esc_sr.upscale(file, NETWORK, allow_large=True).shape == (160, 180, 3)
    assert esc_sr.upscale(noise(80, 90, 3), NETWORK).shape == (160, 180, 3)
