"""How much noise goes: mixtures of two bundled files, wherever a network is used."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner, Result

import esc_sr
from app_servers import MINUTE, served
from esc_sr import Upscaler, engines, upscale, weights
from esc_sr.app import work
from esc_sr.cli import export
from esc_sr.cli.main import app
from esc_sr.cluster import upscale as cluster_upscale
from esc_sr.cluster.enlarging import Enlarging, NetworkChoice
from esc_sr.cluster.work import WorkerMeans
from esc_sr.engines import store
from esc_sr.errors import UsageError, WeightsError
from esc_sr.image import Picture, read_image, write_image
from esc_sr.upscaling.batch import Choices
from esc_sr.video.folder import network_facts
from esc_sr.weights import bundle
from pictures import noise
from weights_files import shelf_of_pairs

PIXELS = noise(9, 11, 3)
HAVE = "models that have: tiny-x4"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bundled weights, as of `shelf_of_pairs`."""
    return shelf_of_pairs(tmp_path_factory.mktemp("bundled"))


@pytest.fixture(autouse=True)
def shelf(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(bundle, "FOLDER", files)
    monkeypatch.chdir(tmp_path)
    work.models.cache_clear()
    yield
    work.models.cache_clear()


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def numbers(network: nn.Module) -> dict[str, bytes]:
    """The bits of all tensors."""
    return {name: value.numpy().tobytes() for name, value in network.state_dict().items()}


def means(share: float) -> dict[str, Tensor]:
    """The weighted means of the two files, in double precision."""
    strong, weak = (weights.load(name).double().state_dict() for name in ("tiny-x4", "tiny-weak-x4"))
    return {name: share * strong[name] + (1 - share) * weak[name] for name in strong}


@pytest.mark.parametrize("name", ["tiny", "tiny-x4"])
def test_a_mixture_is_the_mean_of_both_files(name: str) -> None:
    strong, weak = weights.load("tiny-x4"), weights.load("tiny-weak-x4")
    assert numbers(weights.load(name, denoise=1)) == numbers(strong)
    assert numbers(weights.load(name, denoise=0)) == numbers(weak) != numbers(strong)
    mixed = esc_sr.load(name, denoise=0.25)
    assert mixed.config == strong.config and not mixed.training
    for key, value in means(0.25).items():
        torch.testing.assert_close(mixed.state_dict()[key], value.float(), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_networks_are_mixed_and_stay_as_they_are(share: float) -> None:
    strong, weak = weights.load("tiny-x4"), weights.load("tiny-weak-x4")
    before = numbers(strong), numbers(weak)
    mixed = weights.mix(strong, weak, share)
    for key, value in means(share).items():
        torch.testing.assert_close(mixed.state_dict()[key], value.float(), rtol=1e-5, atol=1e-7)
    mixed.get_parameter(next(iter(mixed.state_dict()))).data.zero_()
    assert (numbers(strong), numbers(weak)) == before


def test_networks_of_other_sizes_have_no_mean() -> None:
    with pytest.raises(WeightsError, match="x4.* and .*x2.* have no mean; both have to be of the same sizes"):
        weights.mix(weights.load("tiny-x4"), weights.load("tiny-x2"), 0.5)


@pytest.mark.parametrize("share", [0, 0.3, 1])
def test_pictures_go_through_the_mixture(share: float) -> None:
    mixed = weights.mix(weights.load("tiny-x4"), weights.load("tiny-weak-x4"), share)
    expected = upscale(PIXELS, mixed)
    assert np.any(expected != upscale(PIXELS, "tiny-x4")) == (share < 1)
    for name in ("tiny", "tiny-x4"):
        np.testing.assert_array_equal(upscale(PIXELS, name, 4, denoise=share), expected)


def test_sizes_come_from_a_scale_that_has_both_files() -> None:
    told: list[str] = []
    upscaler = Upscaler("tiny", denoise=0.5, report=told.append)
    assert upscaler.size == Upscaler("tiny").size
    assert upscaler.upscale(PIXELS).shape == (18, 22, 3)
    assert "tiny x4, then reduced to x2" in told
    assert (upscaler.own(9, 11), Upscaler("tiny").own(9, 11)) == (4, 2)
    with pytest.raises(UsageError, match="enlarges x4 at most, not x5"):
        Upscaler("tiny", 5, denoise=0.5)
    assert weights.bundled_scales("tiny") == [2, 4] and weights.bundled_scales("tiny", 0.5) == [4]


@pytest.mark.parametrize("share", [-0.1, 1.01, float("nan"), float("inf"), "0.5", [1]])
def test_no_share(share: Any) -> None:
    for make in (Upscaler, weights.load, engines.load):
        with pytest.raises(UsageError, match=r"^denoise .* is no number from 0 to 1$"):
            make("tiny-x4", denoise=share)


@pytest.mark.parametrize(
    "model", ["tiny-x2", "plain", "tiny-weak-x4", "no-such", "a.onnx", "a.safetensors", "tiny-x4"]
)
def test_models_without_weak_weights(model: str, files: Path) -> None:
    for name in ("a.safetensors", "tiny-x4"):  # a file goes before a bundled name
        Path(name).write_bytes((files / "tiny-x4.safetensors").read_bytes())
    wanted = f"{model}: has no weak weights for denoise to mix in; {HAVE}"
    for make in (Upscaler, weights.load, engines.load):
        with pytest.raises(UsageError) as refused:
            make(model, denoise=0.5)
        assert str(refused.value) == wanted
    write_image(Picture(PIXELS), "a.png")
    failed = run("upscale", "a.png", "-n", model, "--denoise", "0.5")
    assert (failed.exit_code, failed.stderr) == (2, f"esc-sr: error: {wanted}\n")


def test_neither_has_a_module_nor_another_scale(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=f"^Identity: has no weak weights .*; {HAVE}$"):
        Upscaler(nn.Identity(), denoise=0.5)
    with pytest.raises(UsageError, match=f"^tiny at x2: has no weak weights .*; {HAVE}$"):
        weights.load("tiny", scale=2, denoise=0.5)
    monkeypatch.setattr(bundle, "FOLDER", files / "none")
    with pytest.raises(UsageError, match="^tiny: has no weak weights .*; models that have: none$"):
        Upscaler("tiny", denoise=1)


def test_the_command_says_it_and_names_stay() -> None:
    write_image(Picture(PIXELS), "a.png")
    told = run("upscale", "a.png", "-n", "tiny", "-s", "4", "--denoise", "0.5", "--json")
    record = json.loads(told.stdout)
    assert (record["denoise"], record["model"], record["scale"]) == (0.5, "tiny", 4)
    assert "tiny x4, denoise 0.5, cpu" in told.stderr
    np.testing.assert_array_equal(read_image("a_4x.png").pixels, upscale(PIXELS, "tiny", 4, denoise=0.5))
    for share in ("2", "nan"):
        failed = run("upscale", "a.png", "-n", "tiny", "--denoise", share)
        assert failed.exit_code == 2 and failed.stderr.count("\n") == 1
    assert run("upscale", "a.png", "-n", "tiny", "--denoise", "much").exit_code == 2


def test_frames_of_a_video_go_through_it() -> None:
    from video_clips import make

    make("a.mp4")
    command = ("video", "a.mp4", "-n", "tiny", "-s", "4", "--frames", "0", "--json")
    for share in "01":
        Path(share).mkdir()
    shown = [json.loads(run(*command, "--denoise", share, "-o", share).stdout) for share in "01"]
    assert [facts["denoise"] for facts in shown] == [0, 1]
    weak, strong = (read_image(facts["targets"][0]).pixels for facts in shown)
    assert weak.shape == strong.shape and np.any(weak != strong)


def test_a_video_goes_on_with_its_own_mixture_alone() -> None:
    found = [network_facts("tiny", Upscaler("tiny", 4, denoise=share), "auto") for share in (None, 0.5, 0.6)]
    none, half, more = found
    assert half["model"] == more["model"] != none["model"]
    assert [facts["denoise"] for facts in found] == [None, 0.5, 0.6]


def test_a_cluster_tells_of_which_files_a_mixture_is() -> None:
    def sha256(share: float | None, model: str = "tiny-x4") -> str:
        facts = Enlarging(NetworkChoice(model, None, denoise=share), Choices()).prepare(given)
        (found,) = facts.sha256.values()
        return str(found)

    given = WorkerMeans(1, "cpu", 2**30)
    assert sha256(1) == sha256(None) and sha256(0) == sha256(None, "tiny-weak-x4")
    assert sha256(0.5) == sha256(0.5, "tiny")
    assert len({sha256(share) for share in (0, 0.4, 0.5, 1)}) == 4


def test_a_cluster_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plans: list[cluster_upscale.ClusterRun] = []
    monkeypatch.setattr(cluster_upscale, "upscale", lambda plan, *rest: plans.append(plan))
    run("upscale", "a.png", "-o", "out", "-n", "tiny", "--denoise", "0.5", "--cluster", "ray")
    (plan,) = plans
    facts = Enlarging(plan.network, plan.choices).prepare(WorkerMeans(1, "cpu", 2**30))
    assert cluster_upscale._facts(plan, facts)["denoise"] == 0.5


def test_each_mixture_has_a_graph_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(store, "export", lambda network, path, *rest, **options: path.touch())

    def graph(**options: Any) -> Path:
        return store.graph_of(weights.load("tiny-x4", **options), "onnx", lambda text: None)

    assert graph(denoise=1) == graph() and graph(denoise=0.5) == graph(denoise=0.5)
    assert len({graph(denoise=share) for share in (0, 0.4, 0.5, 1)}) == 4


def test_the_page_offers_it_where_it_is(tmp_path: Path) -> None:
    write_image(Picture(PIXELS), "a.png")
    sent = Path("a.png").read_bytes()
    with served(tmp_path) as link, httpx.Client(base_url=f"{link}/v1", timeout=MINUTE) as client:
        models = {model["name"]: model["denoise"] for model in client.get("models").json()}
        assert models == {"tiny": True, "plain": False}

        def post(**wishes: Any) -> httpx.Response:
            return client.post("upscale", params={"model": "tiny", "scale": 4, **wishes}, content=sent)

        Path("b.png").write_bytes(post(denoise=0.5, wait=True).content)
        np.testing.assert_array_equal(read_image("b.png").pixels, upscale(PIXELS, "tiny", 4, denoise=0.5))
        job = post(denoise=0).json()
        assert job["denoise"] == 0 and post().json()["denoise"] is None
        box = {"left": 0, "top": 0, "width": 11, "height": 9}
        Path("c.png").write_bytes(client.post(f"jobs/{job['id']}/preview", params=box).content)
        np.testing.assert_array_equal(read_image("c.png").pixels, upscale(PIXELS, "tiny", 4, denoise=0))
        for wishes, status, why in (
            ({"denoise": 2}, 400, "denoise 2.0 is no number from 0 to 1"),
            ({"denoise": "nan"}, 400, "denoise nan is no number from 0 to 1"),
            ({"denoise": "much"}, 422, "denoise: Input should be a valid number"),
            (
                {"denoise": 0, "model": "plain"},
                400,
                f"plain: has no weak weights for denoise to mix in; {HAVE}",
            ),
            ({"model": "tiny-weak"}, 400, "no model is called 'tiny-weak'; there are plain, tiny"),
        ):
            answer = post(**wishes)
            assert (answer.status_code, why in answer.json()["error"]) == (status, True), answer.text


def test_weak_weights_are_listed() -> None:
    listed = [model["name"] for model in json.loads(run("models", "--json").stdout)]
    assert listed == ["plain-x2", "tiny-weak-x4", "tiny-x2", "tiny-x4"]
    family = json.loads(run("models", "tiny", "--json").stdout)
    assert [model["name"] for model in family] == ["tiny-x2", "tiny-x4"]


@pytest.mark.parametrize("kind", ["onnx", "openvino"])
def test_a_mixture_is_exported(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[nn.Module] = []

    def keep(network: nn.Module, *_: object, **__: object) -> tuple[()]:
        written.append(network)
        return ()

    monkeypatch.setattr(export, "write", keep)
    assert run("export", kind, "tiny", "half", "--denoise", "0.5").exit_code == 0
    assert numbers(written[0]) == numbers(weights.load("tiny", denoise=0.5))
    refusal = run("export", kind, "tiny", "other", "--denoise", "2")
    assert refusal.exit_code == 2 and refusal.stderr.count("\n") == 1 and len(written) == 1
