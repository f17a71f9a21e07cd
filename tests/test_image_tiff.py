"""TIFF: what is not read of it is named, and a channel that is no alpha is left out."""

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from esc_sr.errors import ImageError
from esc_sr.image import decode_image, decode_region, read_image
from pictures import noise, pillow, silent


@pytest.mark.parametrize(
    ("kind", "said"),
    [("f8", "its samples have more than 32 bits"), ("?", "its samples do not fill whole bytes"),
     ("labq", "its colours are Lab")],
)  # fmt: skip
def test_a_whole_tiff_of_other_pixels_is_not_called_damaged(kind: str, said: str) -> None:
    tifffile = pytest.importorskip("tifffile")
    pixels, file = np.ones((9, 8, 3), "u1" if kind == "labq" else kind), io.BytesIO()
    tifffile.imwrite(file, pixels, photometric="cielab" if kind == "labq" else "rgb")
    with pytest.raises(ImageError, match=f"cannot read a: {said}; convert it to 8 or 16 bit or float grey"):
        decode_image(file.getvalue(), "a", notify=silent)


@pytest.mark.parametrize("dng", [False, True])
@pytest.mark.parametrize("behind", [0, 2**16])
def test_a_thumbnail_in_a_raw_is_not_taken_for_the_picture(dng: bool, behind: int) -> None:
    tifffile = pytest.importorskip("tifffile")
    file, version = io.BytesIO(), [(50706, "B", 4, bytes([1, 4, 0, 0]), True)]
    with tifffile.TiffWriter(file) as writer:
        kind = {"extratags": version} if dng else {"subifds": 1}
        writer.write(noise(8, 9, 3), photometric="rgb", subfiletype=1, **kind)
        writer.write(noise(64, 72), photometric="minisblack")
    data = file.getvalue()
    data = data[:4] + struct.pack("<I", len(data) + behind) + data[8:] + bytes(behind) + data[8:]  # tags
    with pytest.raises(ImageError, match=r"\(RAW; develop it first, to a TIFF of 16 bits\)"):
        decode_image(data, "a", notify=silent)
    with pytest.raises(ImageError, match=r"\(RAW; develop it first, to a TIFF of 16 bits\)"):
        decode_region(memoryview(data), "a", 0, 0, 2, 2)


@pytest.mark.parametrize(
    ("scheme", "named"), [(34925, "LZMA"), (6, "Old-style JPEG"), (34712, "scheme 34712")]
)
def test_a_compression_that_is_not_read_is_named(scheme: int, named: str) -> None:
    data = bytearray(pillow(Image.fromarray(noise(9, 8, 3)), "TIFF", compression="tiff_adobe_deflate"))
    place = data.index(struct.pack("<HHI", 259, 3, 1)) + 8
    data[place : place + 2] = struct.pack("<H", scheme)
    with pytest.raises(ImageError, match=f"its compression, {named}, is not read; save it with Deflate or"):
        decode_image(bytes(data), "a", notify=silent)


def test_other_colour_spaces_are_refused() -> None:
    ycbcr = pillow(Image.fromarray(noise(8, 9, 3)).convert("YCbCr"), "TIFF")
    with pytest.raises(ImageError, match="YCbCr without JPEG; convert it"):
        decode_image(ycbcr, "a")
    with pytest.raises(ImageError, match="YCbCr without JPEG; convert it"):
        decode_region(memoryview(ycbcr), "a", 0, 0, 2, 2)


@pytest.mark.parametrize("code", [8, 9, 10])
@pytest.mark.parametrize("kind", ["u1", "u2", "f4"])
def test_lab_is_named_and_refused(tmp_path: Path, code: int, kind: str) -> None:
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(tmp_path / "a.tif", np.ones((8, 9, 3), kind), photometric=code)
    said = "its colours are Lab; convert it to 8 or 16 bit or float grey or RGB first"
    with pytest.raises(ImageError, match=said):
        read_image(tmp_path / "a.tif")
    with pytest.raises(ImageError, match=said):
        decode_region(memoryview((tmp_path / "a.tif").read_bytes()), "a", 0, 0, 2, 2)


@pytest.mark.parametrize(("across", "down"), [(2, 1), (2, 2), (None, None)])  # where unsaid it is 2 x 2
def test_subsampled_ycbcr_has_no_alpha(across: int | None, down: int | None) -> None:
    whole = struct.pack("<HHIHH", 530, 3, 2, 1, 1)
    data = pillow(Image.new("YCbCr", (8, 6), (100, 100, 100)), "TIFF")
    said = struct.pack("<HHIHH", 530, 3, 2, across, down) if across else struct.pack("<HHII", 531, 3, 1, 1)
    assert data.count(whole) == 1
    heard: list[str] = []
    data = data.replace(whole, said)
    pixels = decode_image(data, "a", notify=heard.append).pixels
    assert pixels.shape == (6, 8, 3) and heard == []
    assert np.abs(pixels - np.array([60.7, 129.6, 50.4])).max() < 2
    np.testing.assert_array_equal(decode_region(memoryview(data), "a", 2, 3, 4, 5).pixels, pixels[2:6, 3:8])


@pytest.mark.parametrize("bands", [2, 4])
def test_a_mask_saved_in_a_tiff_is_no_transparency(bands: int) -> None:
    tifffile = pytest.importorskip("tifffile")
    pixels, file = noise(9, 8, bands), io.BytesIO()
    photometric = "rgb" if bands == 4 else "minisblack"
    tifffile.imwrite(
        file, pixels, photometric=photometric, extrasamples=["UNSPECIFIED"], planarconfig="contig"
    )
    heard: list[str] = []
    found = decode_image(file.getvalue(), "a", notify=heard.append).pixels
    np.testing.assert_array_equal(found, pixels[:, :, : bands - 1])
    assert heard[:1] == ["a channel that is not said to be transparency is left out"]
    part = decode_region(memoryview(file.getvalue()), "a", 2, 3, 4, 5).pixels
    np.testing.assert_array_equal(part, found[2:6, 3:8])
    file = io.BytesIO()
    tifffile.imwrite(
        file, pixels, photometric=photometric, extrasamples=["UNASSALPHA"], planarconfig="contig"
    )
    np.testing.assert_array_equal(decode_image(file.getvalue(), "a", notify=silent).pixels, pixels)
