"""Picture files in and out of the engine: the jobs, and one file at a time."""

import errno
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pyvips
import torch
from PIL import Image
from torch import Tensor, nn

from esc_sr.errors import ImageError, UsageError
from esc_sr.image import Picture, read_image, write_image
from esc_sr.upscaling import files, work
from esc_sr.upscaling.batch import Choices
from esc_sr.upscaling.engine import Upscaler
from esc_sr.upscaling.files import Job, find_jobs
from esc_sr.upscaling.folders import Inputs, find_inputs
from esc_sr.upscaling.names import Names
from esc_sr.upscaling.sizes import Size
from upscaled import upscale_file

NAMES = Names()


class Repeat(nn.Module):
    """Repeats pixels, times a factor, and counts its calls."""

    def __init__(self, factor: float = 1.0) -> None:
        super().__init__()
        self.factor = factor
        self.calls = 0

    def forward(self, lr: Tensor) -> Tensor:
        self.calls += 1
        return torch.kron(lr, lr.new_ones(2, 2)) * self.factor


def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)


@pytest.fixture
def upscaler() -> Upscaler:
    return Upscaler(Repeat(), scale=2)


def pictures(folder: Path, *names: str) -> list[Path]:
    folder.mkdir(exist_ok=True)
    for name in names:
        write_image(Picture(pixels()), folder / name)
    return [folder / name for name in names]


def test_plan_beside_the_input(tmp_path: Path) -> None:
    sources = pictures(tmp_path, "b.JPG", "a.png")
    todo = find_jobs(sources, None, Names(size=Size("scale", 3)))
    assert todo.jobs == [Job(sources[0], tmp_path / "b_3x.JPG"), Job(sources[1], tmp_path / "a_3x.png")]
    assert find_jobs(sources, None, NAMES, format="webp").jobs[0].target == tmp_path / "b_2x.webp"


def test_plan_takes_the_visible_pictures_of_a_folder_in_order(tmp_path: Path) -> None:
    pictures(tmp_path, "b.png", "a.tiff", ".hidden.png")
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "folder.png").mkdir()
    assert [job.source.name for job in find_jobs([tmp_path], None, NAMES).jobs] == ["a.tiff", "b.png"]


def test_plan_tells_folder_from_file(tmp_path: Path) -> None:
    a, b = pictures(tmp_path / "in", "a.png", "b.png")
    there, new = tmp_path / "there", tmp_path / "new"
    there.mkdir()
    assert find_jobs([a], str(there), NAMES).jobs == [Job(a, there / "a_2x.png")]
    assert find_jobs([a], f"{new}/", NAMES).jobs == [Job(a, new / "a_2x.png")]
    assert find_jobs([a, b], str(new), NAMES).jobs[1] == Job(b, new / "b_2x.png")
    assert find_jobs([a.parent], str(new), NAMES).jobs[0] == Job(a, new / "a_2x.png")
    assert find_jobs([a], str(new) + ".webp", NAMES).jobs == [Job(a, tmp_path / "new.webp")]
    assert not new.exists()


def test_plan_refuses_what_cannot_work_at_all(tmp_path: Path) -> None:
    a, twin = pictures(tmp_path, "a.png", "a.jpg")
    (tmp_path / "other").mkdir()
    link = tmp_path / "other" / "a.png"
    link.symlink_to(a)
    impossible: list[tuple[type[Exception], str, list[Path], str | None, str | None]] = [
        (UsageError, "bmp", [a], None, "bmp"),
        (UsageError, "neither a folder", [a], str(tmp_path / "x"), None),
        (UsageError, "not the name of a webp", [a], str(tmp_path / "x.png"), "webp"),
        (UsageError, "has to be a folder", [a, twin], str(a), None),
        (UsageError, "would both become", [a, twin], None, "png"),
        (UsageError, "would both become", [a, twin], str(tmp_path / "new"), "png"),
        (UsageError, "would both become", [a, link], str(tmp_path / "new"), None),
        (ImageError, "no such folder", [a], str(tmp_path / "no" / "x.png"), None),
        (ImageError, "no such folder", [a, twin], str(tmp_path / "no" / "way"), None),
    ]
    for kind, said, inputs, output, format in impossible:
        with pytest.raises(kind, match=said):
            find_jobs(inputs, output, NAMES, format)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_plan_refuses_a_read_only_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    (a,) = pictures(tmp_path, "a.png")
    refused = OSError(number, os.strerror(number))

    def refuse(**about: object) -> None:
        raise refused

    monkeypatch.setattr("os.access", lambda path, mode: False)  # root may write anywhere
    monkeypatch.setattr("esc_sr.upscaling.places.TemporaryFile", refuse)
    said = f"nothing can be written there ({refused.strerror})"
    assert said in find_jobs([a], None, NAMES).settled[0].reason
    with pytest.raises(ImageError, match=re.escape(said)):
        find_jobs([a], str(tmp_path / "x.png"), NAMES)


def test_plan_sorts_out_bad_inputs_and_keeps_the_others(tmp_path: Path) -> None:
    a, done = pictures(tmp_path, "a.png", "done.png")
    pictures(tmp_path, "done_2x.png")
    text = tmp_path / "notes.txt"
    text.write_text("no picture")
    empty = tmp_path / "empty"
    empty.mkdir()
    missing = tmp_path / "missing.png"
    todo = find_jobs([text, a, empty, missing, done], None, NAMES)
    assert todo.jobs == [Job(a, tmp_path / "a_2x.png")]
    for said, outcome in zip(("'.txt'", "no picture", "no such", "--overwrite"), todo.settled, strict=True):
        assert outcome.status == "failed" and said in outcome.reason
    assert len(find_jobs([done], None, NAMES, existing="overwrite").jobs) == 1


def test_a_picture_named_twice_is_done_once(tmp_path: Path) -> None:
    (a,) = pictures(tmp_path, "a.png")
    assert [job.source for job in find_jobs([a, tmp_path, a], None, NAMES).jobs] == [a]


def test_a_picture_named_in_two_ways_is_done_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (picture,) = pictures(tmp_path, "a.png")
    monkeypatch.chdir(tmp_path)
    other = Path("..", tmp_path.name, "a.png")
    assert len(find_jobs([picture, Path("a.png"), other, Path()], None, NAMES).jobs) == 1


def test_what_is_no_file_is_not_overwritten_and_said_so_before_the_work(tmp_path: Path) -> None:
    (picture,) = pictures(tmp_path, "a.png")
    (tmp_path / "a_2x.png").mkdir()
    (outcome,) = find_jobs([picture], None, NAMES, existing="overwrite").settled
    assert outcome.status == "failed" and "a_2x.png: not a regular file" in outcome.reason


def test_a_picture_that_vanishes_stops_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a, gone = pictures(tmp_path, "a.png", "gone.png")

    def found(*given: Any) -> Inputs:
        inputs = find_inputs(*given)
        gone.unlink(missing_ok=True)
        return inputs

    monkeypatch.setattr(files, "find_inputs", found)
    todo = find_jobs([tmp_path], None, NAMES)
    assert todo.jobs == [Job(a, tmp_path / "a_2x.png")]
    assert [(outcome.source, outcome.status) for outcome in todo.settled] == [(gone, "failed")]
    assert todo.settled[0].reason == f"{gone}: cannot be read (No such file or directory)"


def test_of_two_that_are_only_read_the_second_fails_alone(tmp_path: Path) -> None:
    for name in ("t.bmp", "t.ppm"):
        Image.fromarray(pixels()).save(tmp_path / name)
    todo = find_jobs([tmp_path], None, NAMES)
    assert todo.jobs == [Job(tmp_path / "t.bmp", tmp_path / "t_2x.png")]
    assert "t.ppm: would become" in todo.settled[0].reason and "t.bmp does" in todo.settled[0].reason


def test_an_input_is_never_overwritten(tmp_path: Path) -> None:
    a, larger = pictures(tmp_path, "a.png", "a_2x.png")
    link = tmp_path / "link.png"
    link.symlink_to(a)
    attempts = [([a], str(a)), ([a], str(link)), ([link], str(a)), ([a, larger], None)]
    for inputs, output in attempts:
        assert "never overwritten" in find_jobs(inputs, output, NAMES, existing="overwrite").settled[0].reason


def test_the_folder_and_the_picture_are_made(tmp_path: Path, upscaler: Upscaler) -> None:
    (a,) = pictures(tmp_path, "a.png")
    target = tmp_path / "new" / "a.tiff"
    outcome = upscale_file(Job(a, target), upscaler)
    assert (outcome.size, outcome.target_size) == ((4, 6), (8, 12))
    np.testing.assert_array_equal(read_image(target).pixels, np.kron(pixels(), np.ones((2, 2, 1), np.uint8)))


def test_an_existing_output_is_kept(tmp_path: Path, upscaler: Upscaler) -> None:
    a, b = pictures(tmp_path, "a.png", "b.png")
    before = b.read_bytes()
    assert "exists" in upscale_file(Job(a, b), upscaler).reason
    assert b.read_bytes() == before
    assert upscale_file(Job(a, b), upscaler, Choices("overwrite")).status == "done"
    assert read_image(b).pixels.shape == (8, 12, 3)


def test_the_picture_that_the_network_cannot_do_is_named(tmp_path: Path) -> None:
    (a,) = pictures(tmp_path, "a.png")
    outcome = upscale_file(Job(a, tmp_path / "b.png"), Upscaler(Repeat(float("nan")), scale=2))
    assert outcome.status == "failed" and f"{a}: the network gives NaN" in outcome.reason
    assert not (tmp_path / "b.png").exists()


def test_the_format_is_asked_before_the_work(tmp_path: Path) -> None:
    write_image(Picture(np.zeros((1, 9000, 3), np.uint8)), tmp_path / "wide.png")
    network = Repeat()
    outcome = upscale_file(Job(tmp_path / "wide.png", tmp_path / "wide.webp"), Upscaler(network, scale=2))
    assert "webp holds no side of 18000 pixels" in outcome.reason
    assert network.calls == 0


def gif(frames: int) -> bytes:
    """Of one pixel."""
    frame = b",\0\0\0\0\1\0\1\0\0\2\2\x44\1\0"
    return b"GIF89a\1\0\1\0\x80\0\0\0\0\0\xff\xff\xff" + frame * frames + b";"


def test_work_for_hours_is_refused_by_the_header(
    tmp_path: Path, upscaler: Upscaler, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.gif").write_bytes(gif(500_000))
    image = pyvips.Image.black(16384, 16384)
    image.write_to_file(str(tmp_path / "a.png"), compression=1)
    for name, said in (("a.gif", "500000 x 1 x 1 pixels are hours"), ("a.png", "1 x 16384 x 16384 pixels")):
        outcome = upscale_file(Job(tmp_path / name, tmp_path / f"b_{name}"), upscaler)
        assert re.search(rf"{said}.*at most 134217728.*--allow-large", outcome.reason)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.gif", "a.png"]
    job = Job(tmp_path / "a.gif", tmp_path / "b.png")  # of one frame
    assert upscale_file(job, upscaler).status == "done"
    (tmp_path / "a.gif").write_bytes(gif(3))
    monkeypatch.setattr(work, "MAX_WORK", 2 * 64 * 64)
    job = Job(tmp_path / "a.gif", tmp_path / "b.gif")
    assert "3 x 1 x 1 pixels" in upscale_file(job, upscaler).reason
    streamed = job._replace(data=gif(3))
    assert "3 x 1 x 1 pixels" in upscale_file(streamed, upscaler).reason
    assert upscale_file(job, upscaler, Choices(allow_large=True)).status == "done"
