"""A disk that fills up ends a run in one line, with the last good checkpoint intact."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from esc_sr import weights
from esc_sr.errors import DataError, WeightsError
from esc_sr.families.esc import ESC, ESCConfig
from esc_sr.train import checkpoint
from esc_sr.train.monitor import RunOptions
from esc_sr.train.recipes import Classic
from esc_sr.train.schedule import Budget
from test_train_loop import make_pairs_of_blobs, make_state, resume, run

resource = pytest.importorskip("resource", reason="limits on file sizes are a thing of Unix")

TWO = Budget(iterations=2)


@contextmanager
def files_limited_to(size: int) -> Iterator[None]:
    """Makes writing past `size` bytes fail, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def assert_goes_on_from(out: Path, iteration: int) -> None:
    assert resume(out).iteration == iteration
    assert not list(out.glob("*.part"))


@pytest.mark.parametrize("size", [100, 4000])
def test_a_checkpoint_that_does_not_fit(tmp_path: Path, size: int) -> None:
    run(make_state(), tmp_path, TWO, options=RunOptions(log_every=100))
    with pytest.raises(
        DataError, match=r"last\.pt: cannot be written \(File too large\); the .* intact"
    ) as caught:
        with files_limited_to(size):
            checkpoint.save(make_state(), checkpoint.Plan(Classic(), TWO, {}), tmp_path)
    assert "\n" not in str(caught.value)
    assert_goes_on_from(tmp_path, 2)


def test_a_log_line_that_does_not_fit(tmp_path: Path) -> None:
    run(make_state(), tmp_path, TWO, options=RunOptions(log_every=100))
    size = (tmp_path / "log.jsonl").stat().st_size
    with pytest.raises(DataError, match=r"log\.jsonl: cannot be written \(File too large\)"):
        with files_limited_to(size):
            run(resume(tmp_path), tmp_path, Budget(iterations=4), options=RunOptions(log_every=1))
    assert_goes_on_from(tmp_path, 2)


def test_weights_that_do_not_fit(tmp_path: Path) -> None:
    network = ESC(ESCConfig(2, 8, pdim=4, n_blocks=1, n_convattn=1, window=8, heads=1))
    path = tmp_path / "ema.safetensors"
    weights.save(network, path)
    before = path.read_bytes()

    def export(name: str) -> None:
        with files_limited_to(1000):
            weights.save(network, path)

    with pytest.raises(WeightsError, match="cannot be written"):
        run(make_state(), tmp_path, TWO, export=export)
    assert path.read_bytes() == before
    assert_goes_on_from(tmp_path, 2)


def test_a_picture_that_does_not_fit_loses_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "validation").write_text("a file in the place of the folder")
    with pytest.raises(DataError, match="validation: cannot be written"):
        run(make_state(), tmp_path, TWO, held_out=make_pairs_of_blobs())
    assert_goes_on_from(tmp_path, 2)
