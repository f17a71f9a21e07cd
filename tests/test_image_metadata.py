"""What a picture file says beside its pixels: orientation, EXIF, XMP, resolution and colour profiles."""

import io
import re
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import ExifTags, Image, IptcImagePlugin, PngImagePlugin

from esc_sr.image import Encoding, Picture, decode_image, format_of, read_image, write_image
from esc_sr.image.png import comments_of
from pictures import LINEAR_GREY, SRGB, SUFFIXES, noise, pillow, silent, smooth, view

XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><d tiff:Orientation="6"/></x:xmpmeta>'


def exif(orientation: int = 1, thumbnail: bytes = b"") -> bytes:
    """An EXIF block: orientation, maker and resolution, and on wish a thumbnail in IFD1."""
    entries = [(0x10F, 2, 4, b"Lens"[:3] + b"\0"), (0x112, 3, 1, struct.pack("<HH", orientation, 0))]
    ifd0 = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHI4s", *entry) for entry in entries)
    if not thumbnail:
        return b"Exif\0\0II*\0" + struct.pack("<I", 8) + ifd0 + bytes(4)
    start = 8 + len(ifd0) + 4
    ifd1 = struct.pack("<H", 3) + struct.pack("<HHII", 0x103, 3, 1, 6)
    ifd1 += struct.pack("<HHII", 0x201, 4, 1, start + 42) + struct.pack("<HHII", 0x202, 4, 1, len(thumbnail))
    return (
        b"Exif\0\0II*\0"
        + struct.pack("<I", 8)
        + ifd0
        + struct.pack("<I", start)
        + ifd1
        + bytes(4)
        + thumbnail
    )


UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_and_then_one(tmp_path: Path, orientation: int) -> None:
    stored = Image.fromarray(noise(5, 9, 3).repeat(8, 0).repeat(8, 1))
    expected = UPRIGHT[orientation](np.asarray(stored)).astype(int)
    tag = {ExifTags.Base.Orientation: orientation}
    for format, options in (
        ("PNG", {"exif": exif(orientation)}),
        ("JPEG", {"exif": exif(orientation), "quality": 100, "subsampling": 0}),
        ("WEBP", {"exif": exif(orientation)[6:], "lossless": True}),
        ("TIFF", {"tiffinfo": tag}),
    ):
        picture = decode_image(pillow(stored, format, **options), "a")
        assert picture.pixels.shape == expected.shape
        assert np.abs(picture.pixels - expected).max() <= (6 if format == "JPEG" else 0)
        for suffix in SUFFIXES:
            write_image(picture, tmp_path / f"a{suffix}", overwrite=True, notify=silent)
            assert view(tmp_path / f"a{suffix}").getexif().get(ExifTags.Base.Orientation, 1) == 1
            assert read_image(tmp_path / f"a{suffix}").pixels.shape == expected.shape


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("source", ["PNG", "JPEG", "WEBP", "AVIF", "TIFF"])
def test_metadata_is_carried_over(tmp_path: Path, suffix: str, source: str) -> None:
    options: dict[str, Any] = {"exif": exif(6)} if source != "TIFF" else {"tiffinfo": {700: XMP}}
    data = pillow(Image.fromarray(noise(8, 9, 3)), source, icc_profile=SRGB, xmp=XMP, **options)
    picture = decode_image(data, "a")
    assert picture.icc == SRGB
    big = Picture(noise(40, 30, 3), icc=picture.icc, exif=picture.exif, xmp=picture.xmp, dpi=picture.dpi)
    write_image(big, tmp_path / f"a{suffix}", notify=silent)
    back = read_image(tmp_path / f"a{suffix}")
    assert back.icc == SRGB
    if source not in ("PNG",):  # Pillow writes no XMP into PNG
        assert back.xmp is not None
        assert b'tiff:Orientation="1"' in back.xmp
    if "TIFF" not in (source, format_of(f"a{suffix}").upper()):
        tags = view(tmp_path / f"a{suffix}").getexif()
        assert tags[ExifTags.Base.Make] == "Len"
        assert tags.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ExifImageWidth] == 30


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_stale_thumbnail_is_not_carried_over(tmp_path: Path, suffix: str) -> None:
    thumbnail = pillow(Image.new("RGB", (16, 12), "red"), "JPEG")
    data = pillow(Image.fromarray(noise(8, 9, 3)), "JPEG", exif=exif(6, thumbnail))
    assert data.count(b"\xff\xd8\xff") == 2
    write_image(decode_image(data, "a"), tmp_path / f"a{suffix}", notify=silent)
    assert (tmp_path / f"a{suffix}").read_bytes().count(b"\xff\xd8\xff") == (1 if suffix == ".jpg" else 0)


@pytest.mark.parametrize("metadata", [{}, {"exif": exif(6)}, {"icc": SRGB, "xmp": XMP}])
def test_a_png_without_a_density_gains_none(tmp_path: Path, metadata: dict[str, Any]) -> None:
    path = tmp_path / "a.png"
    for shape in ((5, 7, 3), (300, 400, 1)):
        write_image(Picture(noise(*shape), **metadata), path, overwrite=True)
        assert b"pHYs" not in path.read_bytes() and "dpi" not in view(path).info
        np.testing.assert_array_equal(read_image(path).pixels, noise(*shape))
    write_image(Picture(noise(5, 7, 3), dpi=(300, 300), **metadata), path, overwrite=True)
    assert path.read_bytes().count(b"pHYs") == 1


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
def test_resolution_is_carried_over_and_nothing_is_made_up(tmp_path: Path, suffix: str) -> None:
    for dpi in (None, (300.0, 300.0)):
        write_image(Picture(smooth(3), dpi=dpi), tmp_path / f"a{suffix}", overwrite=True)
        back = read_image(tmp_path / f"a{suffix}")
        assert back.dpi == (dpi and pytest.approx(dpi, abs=0.01))
    write_image(Picture(smooth(3)), tmp_path / f"a{suffix}", overwrite=True)
    assert read_image(tmp_path / f"a{suffix}").exif is None


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_profiles_of_another_colour_space_are_not_written(tmp_path: Path, suffix: str) -> None:
    grey = LINEAR_GREY
    write_image(Picture(smooth(1), icc=SRGB), tmp_path / f"a{suffix}")
    assert view(tmp_path / f"a{suffix}").info.get("icc_profile") is None
    write_image(Picture(smooth(3), icc=grey), tmp_path / f"b{suffix}")
    assert view(tmp_path / f"b{suffix}").info.get("icc_profile") is None
    write_image(Picture(smooth(1), icc=grey), tmp_path / f"c{suffix}")
    back = read_image(tmp_path / f"c{suffix}")
    if suffix in (".webp", ".avif"):  # no grey there: linear light became sRGB
        assert back.icc is not None
        assert back.icc[16:20] == b"RGB "
        half = np.abs(smooth(1)[0, :, 0].astype(int) - 128).argmin()
        assert abs(int(back.pixels[18, half].mean()) - 188) <= 4
    else:
        assert back.icc == grey


@pytest.mark.parametrize(
    "block", [b"", b"x", b"Exif\0\0", b"Exif\0\0\1", b"Exif\0\0II*\0", b"Exif\0\0" + b"junk" * 9]
)
def test_a_broken_exif_block_does_not_cost_the_picture(tmp_path: Path, block: bytes) -> None:
    for format in ("JPEG", "PNG", "WEBP"):
        picture = decode_image(pillow(Image.fromarray(noise(8, 9, 3)), format, exif=block), "a")
        for suffix in SUFFIXES:
            write_image(picture, tmp_path / f"a{suffix}", overwrite=True, notify=silent)


# --- what changes with the size, and what a format cannot hold ---------------------------------------------


SIZED = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><d tiff:Orientation="6" tiff:ImageWidth="9" tiff:ImageLength="8" '
    b'exif:PixelXDimension="9"/><exif:PixelYDimension>8</exif:PixelYDimension><tiff:ImageWidthX>5</tiff:ImageWidthX>'
    b"<xmp:Thumbnails><rdf>9999</rdf></xmp:Thumbnails></x:xmpmeta>"
)
UNCLOSED = b"<xmp:Thumbnails>" * 500_000
IPTC = b"\x1c\x02\x78\x00\x05hello\x1c\x02\x50\x00\x02me"


def test_sizes_and_orientation_are_put_right(tmp_path: Path) -> None:
    tags = Image.Exif()
    tags[ExifTags.Base.ImageWidth], tags[ExifTags.Base.ImageLength], tags[ExifTags.Base.Orientation] = 9, 8, 6
    tags.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ExifImageWidth] = 9
    tags.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ExifImageHeight] = 8
    data = pillow(Image.fromarray(noise(8, 9, 3)), "JPEG", exif=tags.tobytes(), xmp=SIZED)
    small = decode_image(data, "a")
    for suffix in (".jpg", ".png", ".webp", ".avif"):
        write_image(
            replace(small, pixels=noise(70000 if suffix == ".png" else 40, 30, 3)), tmp_path / f"a{suffix}"
        )
        with Image.open(tmp_path / f"a{suffix}") as seen:
            back = seen.getexif()
        height = 70000 if suffix == ".png" else 40
        names = (ExifTags.Base.ImageWidth, ExifTags.Base.ImageLength, ExifTags.Base.Orientation)
        assert [back[name] for name in names] == [30, height, 1]
        inner = back.get_ifd(ExifTags.IFD.Exif)
        assert (inner[ExifTags.Base.ExifImageWidth], inner[ExifTags.Base.ExifImageHeight]) == (30, height)
        xmp = read_image(tmp_path / f"a{suffix}").xmp
        assert xmp is not None
        for said in (
            b'tiff:Orientation="1"',
            b'tiff:ImageWidth="30"',
            b'tiff:ImageLength="%d"' % height,
            b'exif:PixelXDimension="30"',
            b"<exif:PixelYDimension>%d<" % height,
            b"<tiff:ImageWidthX>5<",
        ):
            assert said in xmp
        assert b"humbnail" not in xmp


def test_thumbnails_that_never_end_take_no_time(tmp_path: Path) -> None:
    """Of so many, looking for the end of each anew would take an hour."""
    picture = Picture(noise(8, 9, 3), xmp=SIZED + UNCLOSED)
    write_image(picture, tmp_path / "a.webp")
    back = read_image(tmp_path / "a.webp").xmp
    assert back is not None and back.endswith(b"</x:xmpmeta>" + UNCLOSED) and b"9999" not in back


def test_iptc_goes_between_jpeg_and_tiff(tmp_path: Path) -> None:
    write_image(Picture(smooth(3), iptc=IPTC), tmp_path / "a.jpg")
    with Image.open(tmp_path / "a.jpg") as seen:
        assert IptcImagePlugin.getiptcinfo(seen) == {(2, 120): b"hello", (2, 80): b"me"}
    picture = read_image(tmp_path / "a.jpg")
    assert picture.iptc == IPTC
    write_image(picture, tmp_path / "a.tif")
    with Image.open(tmp_path / "a.tif") as seen:
        assert IptcImagePlugin.getiptcinfo(seen) == {(2, 120): b"hello", (2, 80): b"me"}
    back = read_image(tmp_path / "a.tif")
    assert back.iptc is not None and back.iptc.rstrip(b"\0") == IPTC
    write_image(back, tmp_path / "b.jpg")
    with Image.open(tmp_path / "b.jpg") as seen:
        assert IptcImagePlugin.getiptcinfo(seen) == {(2, 120): b"hello", (2, 80): b"me"}


def test_iptc_behind_other_resources_of_photoshop() -> None:
    def resource(number: int, name: bytes, content: bytes) -> bytes:
        name = bytes([len(name)]) + name + bytes((len(name) + 1) % 2)
        return b"8BIM" + struct.pack(">H", number) + name + struct.pack(">I", len(content)) + content

    plain = pillow(Image.fromarray(noise(8, 9, 3)), "JPEG")
    thumbnail = resource(0x040C, b"", b"\xff\xd8\xff" * 20)
    for block, expected in (
        (thumbnail + resource(0x0404, b"name", IPTC), IPTC),
        (thumbnail + resource(0x0404, b"odd", IPTC), IPTC),
        (thumbnail, None),
        (thumbnail + b"8BIM\x04\x04", None),
    ):
        block = b"Photoshop 3.0\0" + block
        segment = b"\xff\xed" + struct.pack(">H", len(block) + 2) + block
        assert decode_image(plain[:2] + segment + plain[2:], "a").iptc == expected


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".gif"])
def test_what_a_format_cannot_hold_is_said(tmp_path: Path, suffix: str) -> None:
    full = Picture(smooth(3), icc=SRGB, exif=exif(6), xmp=XMP, iptc=IPTC, dpi=(300.0, 300.0))
    heard: list[str] = []
    write_image(full, tmp_path / f"a{suffix}", notify=heard.append)
    back = read_image(tmp_path / f"a{suffix}")
    lost = [name for name in ("EXIF", "XMP", "IPTC") if getattr(back, name.lower()) is None]
    assert lost == {".jpg": [], ".tif": ["EXIF"], ".gif": ["EXIF", "XMP", "IPTC"]}.get(suffix, ["IPTC"])
    said = [f"{' and '.join(lost)} cannot be written into {format_of(f'a{suffix}')}"] if lost else []
    assert heard[: len(said)] == said
    stripped: list[str] = []
    write_image(full, tmp_path / f"b{suffix}", encoding=Encoding(strip_metadata=True), notify=stripped.append)
    back = read_image(tmp_path / f"b{suffix}")
    assert (back.exif, back.xmp, back.iptc) == (None, None, None)
    assert b"Len" not in (tmp_path / f"b{suffix}").read_bytes()
    assert back.icc == (SRGB if suffix != ".gif" else None)
    assert stripped == heard[len(said) :]


def test_exif_of_a_tiff_is_said_to_be_lost() -> None:
    tags = Image.Exif()
    tags.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ExifImageWidth] = 9
    for options in ({"exif": tags.tobytes()}, {"tiffinfo": {315: "the artist"}}):
        heard: list[str] = []
        decode_image(pillow(Image.fromarray(noise(8, 9, 3)), "TIFF", **options), "a", notify=heard.append)
        assert heard == ["EXIF of TIFF files is not kept"]


def texts() -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    info.add_text("Title", "Häuser")
    info.add_itxt("parameters", "a cat, π, 猫\nSteps: 20", "en", "Parameter")
    info.add_text("Comment", "long " * 99, zip=True)
    info.add_itxt("XML:com.adobe.xmp", XMP.decode())
    return info


@pytest.mark.parametrize("dpi", [None, (300.0, 300.0)])
def test_the_texts_of_a_png_are_kept(tmp_path: Path, dpi: tuple[float, float] | None) -> None:
    data = pillow(Image.fromarray(noise(8, 9, 3)), "PNG", pnginfo=texts(), **({"dpi": dpi} if dpi else {}))
    picture = decode_image(data, "a")
    write_image(replace(picture, pixels=noise(60, 70, 3)), tmp_path / "a.png")
    written: Any = view(tmp_path / "a.png")
    wanted: Any = Image.open(io.BytesIO(data))
    assert {key: written.text[key] for key in ("Title", "parameters", "Comment")} == {
        key: wanted.text[key] for key in ("Title", "parameters", "Comment")
    }
    assert ("dpi" in written.info) == (dpi is not None)
    assert (tmp_path / "a.png").read_bytes().count(b"XML:com.adobe.xmp") == 1
    np.testing.assert_array_equal(read_image(tmp_path / "a.png").pixels, noise(60, 70, 3))
    write_image(picture, tmp_path / "b.png", encoding=Encoding(strip_metadata=True))
    assert b"tEXt" not in (tmp_path / "b.png").read_bytes()
    for suffix in (".jpg", ".webp", ".avif", ".tif"):
        heard: list[str] = []
        write_image(picture, tmp_path / f"a{suffix}", notify=heard.append)
        assert any("comments cannot be written into" in line for line in heard)


def test_damaged_texts_are_left_out() -> None:
    data = pillow(Image.fromarray(noise(8, 9, 3)), "PNG", pnginfo=texts())
    place = data.index(b"tEXtTitle")
    whole, broken = comments_of(data), comments_of(data[: place + 6] + b"?" + data[place + 7 :])
    assert whole and broken and len(whole) - len(broken) == 12 + len("Title") + 1 + len("Häuser")
    assert comments_of(data[: place + 8]) is None and comments_of(b"") is None


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_exif_without_a_resolution_gains_none_but_the_common_one(tmp_path: Path, suffix: str) -> None:
    write_image(Picture(noise(8, 9, 3), exif=exif(1)), tmp_path / f"a{suffix}")
    assert read_image(tmp_path / f"a{suffix}").dpi is None
    tags = view(tmp_path / f"a{suffix}").getexif()
    assert tags[ExifTags.Base.Make] == "Len" and tags.get(ExifTags.Base.XResolution, 72) == 72


def test_xmp_that_a_jpeg_cannot_hold_is_told(tmp_path: Path) -> None:
    for size, lost in ((60_000, False), (60_001, True)):
        heard: list[str] = []
        xmp = XMP.replace(b"<d ", b"<!--" + b"x" * (size - len(XMP) - 7) + b"--><d ")
        assert len(xmp) == size
        write_image(Picture(noise(8, 9, 3), xmp=xmp), tmp_path / f"{size}.jpg", notify=heard.append)
        assert (read_image(tmp_path / f"{size}.jpg").xmp is None) == lost == bool(heard)


def test_what_lies_behind_a_jpeg_is_told_and_not_claimed(tmp_path: Path) -> None:
    xmp = b"""<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6" hdrgm:Version="1.0"
 GCamera:MotionPhoto="1" GCamera:MotionPhotoVersion='1' xmpNote:HasExtendedXMP="AB" dc:format="image/jpeg">
<GCamera:MicroVideoOffset>9</GCamera:MicroVideoOffset><dc:title>kept</dc:title><Container:Directory>
<rdf:Seq><rdf:li Item:Semantic="GainMap"/></rdf:Seq></Container:Directory></rdf:Description></x:xmpmeta>"""
    data = pillow(Image.fromarray(noise(8, 9, 3)), "JPEG", xmp=xmp)
    heard: list[str] = []
    write_image(decode_image(data, "a", notify=heard.append), tmp_path / "a.jpg")
    assert heard == ["the HDR gain map is not kept", "the video inside is not kept"]
    left = read_image(tmp_path / "a.jpg").xmp or b""
    assert not re.search(rb"hdrgm|Motion|MicroVideo|ExtendedXMP|GainMap|Container", left)
    assert b'dc:format="image/jpeg">' in left and b"<dc:title>kept</dc:title>" in left
    ElementTree.fromstring(re.sub(rb"\b(?:tiff|dc|rdf):", b"", left).replace(b"x:xmpmeta", b"xmpmeta"))
