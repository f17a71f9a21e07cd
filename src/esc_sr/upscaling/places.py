"""Where pictures lie, on this machine or in a store: the one module that tells the two apart.

A place is a `Path`, or an `Address` (`esc_sr.remote`). Names, suffixes, folders around them and `is_file` are
the same of both; the functions here are what is not.
"""

import os
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from itertools import chain
from pathlib import Path
from tempfile import TemporaryFile
from urllib.parse import urlsplit
from urllib.request import url2pathname

from esc_sr.errors import ImageError, UsageError
from esc_sr.image import (
    Animation,
    Encoding,
    Header,
    decode_header,
    encode_image,
    format_of,
    identity,
    kind_of,
    read_bytes,
    read_header,
    write_image,
)
from esc_sr.machine.claim import Claim, clear_remains
from esc_sr.machine.disk import name_on_disk
from esc_sr.remote import Address, RemoteClaim, is_address, parse, shown

Place = Path | Address
"""A file or folder, which may be new."""


def place_of(name: str) -> Place:
    """What a name stands for: a path as it is, or that of a file:// address, or the address of a store.

    Raises:
        UsageError: Of nothing, a store that is not known or not installed, or a file on another machine.
    """
    if not name:
        raise UsageError("an empty name stands for no file or folder; say . for this folder")
    if not is_address(name):
        return Path(name)
    if not name.lower().startswith("file://"):
        return parse(name)
    address = urlsplit(name)
    if address.netloc not in ("", "localhost"):
        raise UsageError(f"{shown(name)}: a file on another machine; sftp:// reads it, if that is a server")
    return Path(url2pathname(address.path))


def looked_at(place: Place) -> Place | None:
    """A place, with what its store tells of it, which is asked once; None if a store has nothing there.

    Raises:
        ImageError: The store does not answer, or not to this one, or the bucket is missing.
    """
    with on_failure(place, "cannot be reached"):
        return place.found() if isinstance(place, Address) else place


def is_folder(place: Place) -> bool:
    """Whether this is a folder; one in a store has been looked at."""
    return place.is_folder if isinstance(place, Address) else os.path.isdir(place)


def exists(place: Place) -> bool:
    """Whether there is anything of that name, also a broken link; errors as of `looked_at`."""
    return looked_at(place) is not None if isinstance(place, Address) else os.path.lexists(place)


def is_file(place: Place) -> bool:
    """Whether this is a file; errors as of `looked_at`."""
    with on_failure(place, "cannot be reached"):
        return place.is_file()


def identity_of(place: Place) -> Hashable:
    """What two names of one file that is there have in common."""
    return place if isinstance(place, Address) else identity(place)


def is_one_of(place: Place, identities: Collection[Hashable]) -> bool:
    """Whether a file, which may be new, is one of those with these identities."""
    if isinstance(place, Address):
        return place in identities
    return place.exists() and identity(place) in identities


def by_name() -> Callable[[Place], Hashable]:
    """What takes a name for one text, however it is written, of a file that may be new."""
    true_folder = cache(os.path.realpath)

    def key(place: Place) -> Hashable:
        if isinstance(place, Address):
            return place
        return name_on_disk(Path(true_folder(place.parent), place.name))

    return key


def header_in(place: Place) -> Header:
    """What the header of a file says; of what lies in a store, all is fetched for that.

    Raises:
        ImageError: The file cannot be opened, or is no picture.
    """
    if isinstance(place, Address):
        return decode_header(memoryview(bytes_in(place)), str(place))
    return read_header(place)


def bytes_in(place: Place) -> bytes:
    """All of a file, if it begins as a picture; others may be huge.

    Raises:
        ImageError: It cannot be read, or is no picture.
    """
    if not isinstance(place, Address):
        return read_bytes(place)
    with on_failure(place, "cannot be read"):
        return place.read_bytes(lambda start: kind_of(start) is not None)


def known_files(targets: Iterable[Place], folder: Place | None) -> Callable[[Place], bool]:
    """What says of these outputs whether there is anything of that name.

    A store is asked for what is in their folders, not for each; of what it tells, they alone are kept.

    Args:
        targets: The outputs.
        folder: In which all of them are, if there is such a one.

    Raises:
        ImageError: The store cannot be asked.
    """
    wanted = {target for target in targets if isinstance(target, Address)}
    there: set[Address] = set()
    listed: Iterator[Address] = iter(())
    if len(wanted) == 1:
        there = {target for target in wanted if is_file(target)}
    elif wanted and isinstance(folder, Address):
        listed = folder.files()
    else:
        parents = sorted({target.parent for target in wanted}, key=str)
        listed = chain.from_iterable(parent.files(deep=False) for parent in parents)
    try:
        there.update(address for address in listed if address in wanted)
    except FileNotFoundError:
        pass  # a folder that is yet to be made
    except OSError as error:
        raise ImageError(f"{folder or parents[0]}: cannot be listed ({error.strerror})") from error
    return lambda place: place in there if isinstance(place, Address) else os.path.lexists(place)


def check_writable(folder: Place) -> None:
    """Refuse a folder in which nothing can be written: of a store, by writing a small file, which goes again.

    Raises:
        UsageError: It is of a kind that can only be read.
        ImageError: It is missing, or who one is must not write there, or the store does not answer.
    """
    if isinstance(folder, Address):
        if not folder.store.writable:
            raise UsageError(f"{folder}: can only be read; name another output, with -o")
        with on_failure(folder, "cannot be written"):
            try:
                RemoteClaim(folder / "esc-sr").close()
            except BlockingIOError:
                pass  # another run does the same
        return
    if not os.path.isdir(folder):
        raise ImageError(f"{folder}: no such folder; make it first")
    if not os.access(folder, os.W_OK | os.X_OK):
        try:
            TemporaryFile(dir=folder).close()
        except OSError as error:
            reason = f"nothing can be written there ({error.strerror})"
            raise ImageError(f"{folder}: {reason}; name another output") from error


def clear(target: Place) -> None:
    """Remove what a process that was killed has left beside an output; what it left in a store grows old."""
    if not isinstance(target, Address):
        clear_remains(target)


def claim(target: Place) -> Claim | RemoteClaim:
    """Claim an output, in a folder that is made if it is new.

    Raises:
        BlockingIOError: Another process is making it.
        OSError: The disk or the store refuses.
    """
    if isinstance(target, Address):
        return RemoteClaim(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    return Claim(target)


def write(
    picture: Animation,
    target: Place,
    held: Claim | RemoteClaim | None,
    overwrite: bool,
    encoding: Encoding,
    notify: Callable[[str], object],
) -> None:
    """Write an output that is claimed, whole or not at all: as `image.write_image`, and so are the errors."""
    if isinstance(held, RemoteClaim):
        data = encode_image(picture, format_of(str(target)), encoding, notify)
        try:
            held.publish(data, overwrite)
        except FileExistsError as error:
            reason = "the file exists; allow overwriting or name another"
            raise ImageError(f"cannot write {target}: {reason}") from error
        except OSError as error:
            raise ImageError(f"cannot write {target}: {error.strerror}") from error
        return
    assert isinstance(target, Path)
    write_image(picture, target, overwrite=overwrite, encoding=encoding, notify=notify, claim=held)


@contextmanager
def on_failure(place: Place, what: str) -> Iterator[None]:
    """Turn what a store answers into one error."""
    try:
        yield
    except OSError as error:
        raise ImageError(f"{place}: {what} ({error.strerror})") from error
