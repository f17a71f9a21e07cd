"""The engine: pictures in, larger pictures out."""

DEFAULT_MODEL = "esc-light"
DEFAULT_SCALE = 2
