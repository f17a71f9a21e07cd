"""`esc-sr analyze`: figures and numbers, drawn again without computing, and what is refused."""

import io
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from esc_sr import weights
from esc_sr.analysis import distances, features, filters, lam, receptive, sheets, similarity
from esc_sr.analysis.store import Store, key_of
from esc_sr.cli.main import app
from esc_sr.errors import UsageError
from esc_sr.image import Picture, read_size, write_image
from test_network import VARIANTS, make


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a set of two pictures and tiny.safetensors."""
    monkeypatch.chdir(tmp_path)
    Path("set/HR").mkdir(parents=True)
    for seed, name in enumerate("ab"):
        pixels = np.random.default_rng(seed).integers(0, 256, (48, 52, 3), dtype=np.uint8)
        write_image(Picture(pixels), f"set/HR/{name}.png")
    write_image(Picture(pixels[:5]), "small.png")
    weights.save(make(VARIANTS["esc"]), "tiny.safetensors")
    weights.save(make(VARIANTS["only-convattn"]), "plain.safetensors")
    return tmp_path


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["analyze", *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def never(*_: Any, **__: Any) -> Any:
    raise AssertionError("computed again")


def test_similarity_writes_a_figure_and_numbers_and_draws_again(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["similarity", "--data", "set", "-n", "tiny.safetensors", "-o", "out.svg"]
    code, out, err = run(*arguments)
    assert code == 0, err
    assert out.splitlines()[-1] == "written: out.svg, out.json, out.npz"
    figure, document = Path("out.svg").read_text(), json.loads(Path("out.json").read_text())
    assert "large kernel alone" in figure and document["pictures"] == ["a", "b"]
    assert [len(row["layers"]) for row in document["rows"]] == [6, 4, 4, 2]
    monkeypatch.setattr(similarity, "measure", never)
    assert run(*arguments)[0] == 0
    assert Path("out.svg").read_text() == figure
    assert run(*arguments[:-1], "out.png")[0] == 0
    assert min(read_size("out.png")) > 500
    with pytest.raises(AssertionError, match="computed again"):
        run(*arguments, "--pixels", "50")


def test_lam_of_two_networks_computes_only_what_is_new(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights.save(make(VARIANTS["xl"]), "other.safetensors")
    both = (
        "lam --hr set/HR/a.png -s 2 --steps 3 --cutout 16 -o l.svg -n tiny.safetensors -n other.safetensors"
    )
    code, out, err = run(*both.split())
    assert code == 0, err
    document = json.loads(Path("l.json").read_text())
    first, second = document["rows"]
    assert (first["model"], second["model"]) == ("tiny", "other")
    assert np.shape(first["map"]) == (document["cutout"]["height"], document["cutout"]["width"])
    assert "tiny" in out and "DI" in Path("l.svg").read_text()
    patch = "{left},{top}".format(**document["patch"])
    monkeypatch.setattr(lam, "measure", never)
    assert run(*both.split(), "--patch", patch)[0] == 0
    assert json.loads(Path("l.json").read_text())["rows"] == document["rows"]
    with pytest.raises(AssertionError, match="computed again"):
        run(*both.split(), "--patch", "0,0")


@pytest.mark.parametrize(
    ("command", "module"),
    [
        ("features set/HR/a.png", features),
        ("receptive-field --data set --side 12 --limit 1", receptive),
        ("kernels set/HR/a.png set/HR/b.png", filters),
        ("attention set/HR/a.png", distances),
        ("compare --data set --picture b -n bicubic --crop 0,0,20,16 --crop 20,8,20,16", sheets),
        ("compare set/HR/a.png", sheets),
    ],
)
def test_the_others_write_and_draw_again(
    here: Path, command: str, module: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = [*command.split(), "-n", "tiny.safetensors", "-o", "out.svg"]
    code, out, err = run(*arguments)
    assert code == 0, err
    document, figure = json.loads(Path("out.json").read_text()), Path("out.svg").read_bytes()
    assert document["kind"] == command.split()[0] and document["rows"] and "written: out.svg" in out
    monkeypatch.setattr(module, "measure", never)
    assert run(*arguments)[0] == 0
    assert (json.loads(Path("out.json").read_text()), Path("out.svg").read_bytes()) == (document, figure)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("similarity -n tiny.safetensors", "give LR pictures, or a benchmark set"),
        ("similarity set/HR/a.png --data set -n tiny.safetensors", "give LR pictures, or a benchmark set"),
        ("similarity none.png -n tiny.safetensors", "none.png"),
        ("similarity set/HR/a.png -n nonsense", "nonsense"),
        ("similarity set/HR/a.png -n tiny.safetensors -o no/a.png", "there is no folder no"),
        ("similarity set/HR/a.png -n tiny.safetensors -o a.doc", "use .png or .svg"),
        ("similarity set/HR/a.png -n tiny.safetensors -o a.json", "is where the numbers go"),
        ("similarity set/HR/a.png -n tiny.safetensors --layer x", "no layer is called x"),
        ("features small.png -n tiny.safetensors", "less than a window of the network"),
        ("kernels small.png -n tiny.safetensors", "less than a window of the network"),
        ("attention small.png -n tiny.safetensors", "less than a window of the network"),
        ("attention set/HR/a.png -n plain.safetensors", "has no SelfAttention"),
        ("receptive-field small.png -n tiny.safetensors", "choose a smaller side"),
        ("compare --data set -n tiny.safetensors --picture c", "no picture is called c; there are a, b"),
        ("compare --data set -n tiny.safetensors --crop 1,2,3", "give LEFT,TOP,WIDTH,HEIGHT"),
        ("compare --data set -n tiny.safetensors --crop 40,0,16,8", "is not inside the enlarged picture"),
        ("lam -n tiny.safetensors", "give a LR picture, or an original"),
        ("lam set/HR/a.png -n tiny.safetensors --patch middle", "give auto, or LEFT,TOP"),
        ("lam set/HR/a.png -n tiny.safetensors --patch 100,0", "is not inside the enlarged picture"),
        ("lam set/HR/a.png --hr set/HR/b.png -n tiny.safetensors", "which x2 does not make"),
        ("lam set/HR/a.png -n tiny.safetensors -n tiny.safetensors", "the same network twice"),
        ("lam set/HR/a.png -n tiny.safetensors --steps 0", "steps=0: must be"),
    ],
)
def test_what_cannot_work_is_one_line(here: Path, arguments: str, message: str) -> None:
    code, out, err = run(*arguments.split())
    assert (code, out) == (2, "")
    assert message in err and len(err.splitlines()) == 1


def test_keys_tell_everything_apart() -> None:
    net, array = make(VARIANTS["esc"]), np.zeros((2, 3))
    keys = {
        key_of(*parts)
        for parts in [(net,), (make(VARIANTS["fp"]),), (array,), (array.T,), (array, 1), ("1",)]
    }
    assert len(keys) == 6
    before = key_of(net)
    net.tail.weight.data[0] += 1
    assert key_of(net) != before == key_of(make(VARIANTS["esc"]))


def test_a_store_keeps_what_is_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "a.npz"
    file.write_bytes(b"no such file")
    store = Store(file)
    np.save(tmp_path / "array", np.zeros(3))
    damaged = io.BytesIO()
    np.savez_compressed(damaged, x=np.random.default_rng(0).random(99))
    flipped = bytearray(damaged.getvalue())
    flipped[80:90] = bytes(255 - byte for byte in flipped[80:90])
    (tmp_path / "flipped.npz").write_bytes(flipped)
    for other in ("array.npy", "flipped.npz"):
        assert Store(tmp_path / other).get("a", lambda: {"x": np.ones(1)})["x"].tolist() == [1]
    store.get("a", lambda: {"x": np.array(["a"]), "y": np.arange(3)})
    store.get("b", lambda: {"x": np.array(["b"])})
    again = Store(file)
    assert again.get("a", never)["x"].tolist() == ["a"]
    again.close()
    third = Store(file)
    assert third.get("a", never)["y"].tolist() == [0, 1, 2]
    assert third.get("b", lambda: {"x": np.zeros(1)})["x"].tolist() == [0]
    with pytest.raises(UsageError, match="cannot be written"):
        Store(tmp_path / "none" / "a.npz").get("a", dict)
