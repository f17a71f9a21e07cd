"""Files that are no pictures here: of which kind they are, and what makes pictures of them."""

from pathlib import Path, PurePath

from esc_sr.errors import ImageError
from esc_sr.image.picture import FORMATS, READ_ONLY
from esc_sr.image.plugins import HEIC_NEEDS, can_read

_RAW = "3fr arw cr2 cr3 crw dng erf iiq kdc mef mos mrw nef nrw orf pef raf raw rw2 rwl sr2 srf srw x3f"
_SUFFIXES = {
    "RAW": _RAW,
    "PDF": "pdf",
    "PostScript": "ai eps ps",
    "SVG": "svg svgz",
    "JPEG XL": "jxl",
    "Photoshop": "psb psd",
    "HDR": "exr hdr",
    "video": "avi m4v mkv mov mp4 webm",
}
_KINDS = {f".{suffix}": kind for kind, suffixes in _SUFFIXES.items() for suffix in suffixes.split()}
_FIRST = {
    "RAW": "develop it first, to a TIFF of 16 bits",
    "PDF": "render its pages first, to PNG of 300 dpi",
    "PostScript": "render it first, to PNG of 300 dpi",
    "SVG": "a drawing has any size: render it as large as it is wanted",
    "JPEG XL": "convert it to PNG first",
    "Photoshop": "export it as PNG or TIFF first",
    "HDR": "convert it to a TIFF of floats first",
    "video": "take its frames out first, as PNG",
    "HEIC": HEIC_NEEDS.removeprefix("HEIC, which "),
}


def is_readable(path: PurePath) -> bool:
    """Whether a file's suffix is that of a picture that can be read as things are installed."""
    suffix = path.suffix.lower()
    return suffix in FORMATS or can_read(READ_ONLY.get(suffix, ""))


def is_special(path: Path) -> bool:
    """Whether this is a pipe, a device or a socket, which may have no end, or nothing to give."""
    return path.exists() and not path.is_file() and not path.is_dir()


def other_kind(path: Path) -> str:
    """The kind of a file that is no readable picture: a name such as "RAW", or its suffix."""
    if not path.exists():
        return "broken link"
    if is_special(path):
        return "special file"
    return suffix_kind(path)


def suffix_kind(path: PurePath) -> str:
    """The kind of a file that is no readable picture, by its name alone."""
    suffix = path.suffix.lower()
    return "HEIC" if READ_ONLY.get(suffix) == "heic" else _KINDS.get(suffix, suffix or "suffixless file")


def what_first(kind: str) -> str | None:
    """What has to be done with files of such a kind before they can be read, if anything helps."""
    return _FIRST.get(kind)


def require_readable(path: PurePath, name: str | None = None) -> None:
    """Refuse a file by its suffix.

    Args:
        path: The file; of one that is not on this machine, a name without a place.
        name: What to call it in errors, if not by its path.

    Raises:
        ImageError: It is of a kind that is not read; says what to do first.
    """
    if is_readable(path):
        return
    name = name or str(path)
    kind = other_kind(path) if isinstance(path, Path) else suffix_kind(path)
    if first := what_first(kind):
        raise ImageError(f"{name}: {kind}; {first}")
    suffixes = [suffix for suffix in (*FORMATS, *READ_ONLY) if is_readable(PurePath(f"a{suffix}"))]
    raise ImageError(f"{name}: no picture format ends in {path.suffix!r}; {', '.join(suffixes)} are read")
