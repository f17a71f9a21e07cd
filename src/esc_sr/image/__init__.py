"""Picture files in and out: the only package that touches them. libvips (pyvips) decodes and encodes.

Formats that are read only come through Pillow and pi-heif. Pixel values are kept as they are, in the encoding
of the file, with the profile that says what they mean; only CMYK is converted. What a format cannot hold is
converted on writing, as `write_image` says.
"""

import pyvips

from esc_sr.image.alpha import fill_transparent, keep_flat
from esc_sr.image.containers import kind_of
from esc_sr.image.folder import identity, is_picture, picture_files
from esc_sr.image.metadata import read_blocks
from esc_sr.image.native import interrupt_later
from esc_sr.image.others import is_readable, is_special, other_kind, require_readable, suffix_kind, what_first
from esc_sr.image.picture import (
    ANIMATED,
    FORMATS,
    MAX_SIDE,
    READ_ONLY,
    Animation,
    Header,
    Picture,
    format_of,
    to_rgb8,
)
from esc_sr.image.read import (
    MAX_PIXELS,
    decode_animation,
    decode_header,
    decode_image,
    decode_region,
    decode_size,
    read_animation,
    read_bytes,
    read_header,
    read_image,
    read_size,
)
from esc_sr.image.write import Encoding, encode_image, write_image

__all__ = [
    "ANIMATED",
    "FORMATS",
    "MAX_PIXELS",
    "MAX_SIDE",
    "READ_ONLY",
    "Animation",
    "Encoding",
    "Header",
    "Picture",
    "decode_animation",
    "decode_image",
    "decode_region",
    "decode_header",
    "decode_size",
    "encode_image",
    "fill_transparent",
    "format_of",
    "identity",
    "interrupt_later",
    "is_picture",
    "is_readable",
    "is_special",
    "keep_flat",
    "kind_of",
    "other_kind",
    "picture_files",
    "read_animation",
    "read_blocks",
    "read_bytes",
    "read_image",
    "read_header",
    "read_size",
    "require_readable",
    "suffix_kind",
    "to_rgb8",
    "what_first",
    "write_image",
]

pyvips.cache_set_max(0)  # no operation is ever repeated, and a cached one would keep its picture in memory
