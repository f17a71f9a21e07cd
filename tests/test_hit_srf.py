"""HiT-SRF's published weights have their published scores."""

from pathlib import Path

from esc_sr import weights
from esc_sr.data.sets import find_set
from esc_sr.evaluate import predict, score
from peer_files import published


def test_published_weights_have_their_published_scores(data_dir: Path) -> None:
    network = weights.load(published("hit_srf_x4.pth"))
    pairs = find_set(data_dir / "Set5", 4).pairs()
    scores = [score(predict(network, pair.lr, 4), pair.hr, 4) for pair in pairs]
    psnr, ssim = (sum(each) / len(scores) for each in zip(*scores, strict=True))
    assert (round(psnr, 2), round(ssim, 4)) == (32.55, 0.8999)
