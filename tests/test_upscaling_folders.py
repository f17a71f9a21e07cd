"""Folders: which pictures are found, where their outputs go, and what these are called."""

import os
from pathlib import Path

import pytest

from esc_sr.errors import ImageError, UsageError
from esc_sr.image import Picture, write_image
from esc_sr.upscaling.files import Job, find_jobs
from esc_sr.upscaling.folders import find_inputs
from esc_sr.upscaling.names import Names
from esc_sr.upscaling.sizes import Size
from pictures import noise, on_disk

NAMES = Names()


def pictures(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_image(Picture(noise(4, 6, 3)), folder / name)


def found(folder: Path, output: Path | None = None) -> list[str]:
    return [str(on_disk(picture.path).relative_to(folder)) for picture in find_inputs([folder], output)[0]]


def test_subfolders_are_walked_and_hidden_and_other_files_are_not(tmp_path: Path) -> None:
    pictures(tmp_path, "z.png", "b/two words/ü.png", "b/a.webp", ".git/no.png", "b/.no.png")
    (tmp_path / "b" / "notes.txt").write_text("no picture")
    assert found(tmp_path) == ["z.png", "b/a.webp", "b/two words/ü.png"]


def test_links_that_lead_back_do_not_hang(tmp_path: Path) -> None:
    pictures(tmp_path, "in/a.png", "in/deep/b.png", "elsewhere/c.png")
    (tmp_path / "in/deep/up").symlink_to(tmp_path / "in")
    (tmp_path / "in/deep/self.png").symlink_to("self.png")
    (tmp_path / "in/link").symlink_to(tmp_path / "elsewhere")
    assert found(tmp_path / "in") == ["a.png", "deep/b.png", "link/c.png"]


def test_the_tree_is_kept_below_the_output(tmp_path: Path) -> None:
    pictures(tmp_path, "in/a.png", "in/x/y/b.png")
    source, out = tmp_path / "in", tmp_path / "out"
    assert find_jobs([source], str(out), NAMES).jobs == [
        Job(source / "a.png", out / "a_2x.png"),
        Job(source / "x/y/b.png", out / "x/y/b_2x.png"),
    ]
    assert find_jobs([source], None, NAMES).jobs[1].target == source / "x/y/b_2x.png"


def test_an_output_folder_inside_the_input_is_left_out(tmp_path: Path) -> None:
    pictures(tmp_path, "a.png", "out/gone_2x.png")
    assert found(tmp_path, tmp_path / "out") == ["a.png"]
    assert found(tmp_path, tmp_path) == ["a.png", "out/gone_2x.png"]


def test_outputs_of_an_earlier_run_are_left_out(tmp_path: Path) -> None:
    pictures(tmp_path, "a.png", "a_2x.png", "a_2x_2x.png", "b_2x.png")
    todo = find_jobs([tmp_path], None, NAMES, existing="overwrite")
    assert todo.left_out == [tmp_path / "a_2x.png", tmp_path / "a_2x_2x.png"]
    assert [job.source.name for job in todo.jobs] == ["a.png", "b_2x.png"]
    elsewhere = find_jobs([tmp_path], str(tmp_path / "out"), NAMES)
    assert len(elsewhere.jobs) == 4 and not elsewhere.left_out
    by_name = find_jobs([tmp_path / "a.png", tmp_path / "a_2x.png"], None, NAMES, existing="overwrite")
    assert not by_name.left_out and len(by_name.jobs) == 1


def test_what_was_named_itself_is_not_left_out(tmp_path: Path) -> None:
    pictures(tmp_path, "in/a.png", "in/a_2x.png")
    named = tmp_path / "in" / "a_2x.png"
    orders = ([named.parent, named], [named, named.parent])
    both = [find_jobs(inputs, None, NAMES, existing="skip") for inputs in orders]
    assert [[job.source for job in todo.jobs] for todo in both] == [[named], [named]]
    assert not any(todo.left_out for todo in both)


def test_an_empty_name_stands_for_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pictures(tmp_path, "a.png")
    todo = find_jobs(["", "a.png"], None, NAMES)
    assert [str(job.source) for job in todo.jobs] == ["a.png"]
    assert [(outcome.status, outcome.reason) for outcome in todo.settled] == [
        ("failed", "an empty name stands for no file or folder; say . for this folder")
    ]
    with pytest.raises(UsageError, match="an empty name"):
        find_jobs(["a.png"], "", NAMES)


def test_an_existing_output_is_skipped_if_wanted(tmp_path: Path) -> None:
    pictures(tmp_path, "a.png", "a_2x.png", "b.png")
    todo = find_jobs([tmp_path], None, NAMES, existing="skip")
    assert [job.source.name for job in todo.jobs] == ["b.png"]
    assert [(on_disk(o.source).name, o.status) for o in todo.settled] == [("a.png", "skipped")]
    itself = find_jobs([tmp_path / "a.png"], None, Names("{stem}"), existing="skip")
    assert itself.settled[0].status == "failed" and "never overwritten" in itself.settled[0].reason


def test_an_unreadable_subfolder_is_told_and_the_rest_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures(tmp_path, "a.png", "locked/b.png")
    scandir = os.scandir

    def refuse(path: str) -> object:
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr("os.scandir", refuse)  # root may read anything
    todo = find_jobs([tmp_path], None, NAMES)
    assert [job.source.name for job in todo.jobs] == ["a.png"]
    assert todo.settled[0].source == tmp_path / "locked" and "Permission" in todo.settled[0].reason


def test_names_that_are_too_long_stop_no_others(tmp_path: Path) -> None:
    longest = "n" * 251
    pictures(tmp_path, "a.png", f"{longest}.png")
    todo = find_jobs([tmp_path, tmp_path / (longest * 2)], None, NAMES)
    assert [job.source.name for job in todo.jobs] == ["a.png"]
    assert [outcome.status for outcome in todo.settled] == ["failed", "failed"]
    assert all("name too long" in outcome.reason for outcome in todo.settled)
    with pytest.raises(ImageError, match="no such folder"):
        find_jobs([tmp_path / "a.png"], str(tmp_path / longest / (longest * 2)) + "/", NAMES)


def test_names_come_from_a_template(tmp_path: Path) -> None:
    pictures(tmp_path, "a b.png")
    names = Names("{model}-{stem} {scale}x {width:04}x{height}", Size("scale", 3), "esc-light")
    assert (
        find_jobs([tmp_path], None, names, "webp").jobs[0].target
        == tmp_path / "esc-light-a b 3x 0018x12.webp"
    )
    (tmp_path / "bad.png").write_bytes(b"no picture")
    outcome = find_jobs([tmp_path], None, names).settled[0]
    assert outcome.status == "failed" and "bad.png" in outcome.reason
    assert find_jobs([tmp_path], None, NAMES).jobs[1].source.name == "bad.png"  # read only where it matters


def test_names_of_wished_sides(tmp_path: Path) -> None:
    pictures(tmp_path, "a.png")  # 6 x 4
    wide, template = Size("width", 16), "{size} {scale} {width}x{height}"
    assert Names(template, wide).of(tmp_path / "a.png", ".png") == "16px 2.66667 16x11.png"
    assert Names(template, Size("height", 8)).of(tmp_path / "a.png", ".png") == "8px 2 12x8.png"
    assert Names(template, Size("scale", 2.5)).of(tmp_path / "a.png", ".png") == "2.5x 2.5 15x10.png"
    (tmp_path / "bad.png").write_bytes(b"no picture")
    assert Names(size=wide).of(tmp_path / "bad.png", ".png") == "bad_16px.png"  # read only where it matters
    too_small = find_jobs([tmp_path / "a.png"], None, Names(template, Size("width", 3))).settled[0]
    assert too_small.status == "failed" and too_small.reason.startswith(f"{tmp_path / 'a.png'}: 6 x 4 to 3")


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{stem}_{colour}", "no field is called 'colour'"),
        ("{}", "no field is called ''"),
        ("{0}", "no field is called '0'"),
        ("{stem.__class__}", "no field is called"),
        ("{stem:{scale}}", "braces"),
        ("{stem", "expected '}'"),
        ("{width:q}", "format code 'q'"),
        ("", "no file name"),
        ("{stem:.0}", "no file name"),
        ("large/{stem}", "no file name"),
        ("{stem:/>9}", "no file name"),
        ("{stem}\0", "no file name"),
        ("{stem:>999999999}", "a field of more than 255 characters"),
        ("{width:.999999999f}", "a field of more than 255 characters"),
    ],
)
def test_a_bad_template_is_one_error(template: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as raised:
        Names(template)
    assert "\n" not in str(raised.value)


def test_names_that_collide_are_found_before_any_work(tmp_path: Path) -> None:
    pictures(tmp_path, "a.png", "b.png")
    with pytest.raises(UsageError, match=r"a\.png and .*b\.png would both become .*esc\.png"):
        find_jobs([tmp_path], None, Names("{model}", model="esc"))
    with pytest.raises(UsageError, match="a file, whose name"):
        find_jobs([tmp_path / "a.png"], str(tmp_path / "x.png"), Names("{stem}"))
