"""The pool that mixes pairs of several batches, and crops of both sides of a pair."""

import torch
from torch import Tensor

from esc_sr.data.pool import PairPool, crop_pairs


def batch(first: int, count: int = 2) -> tuple[Tensor, Tensor]:
    """Pairs whose every pixel says which they are."""
    numbers = torch.arange(first, first + count).view(count, 1, 1, 1) / 255
    return numbers.expand(count, 3, 2, 2), numbers.expand(count, 3, 4, 4)


def numbers(x: Tensor) -> list[int]:
    assert torch.equal(x, x[:, :1, :1, :1].expand_as(x))
    return (x[:, 0, 0, 0] * 255).round().int().tolist()


def test_a_full_pool_gives_pairs_of_earlier_batches_and_loses_none() -> None:
    pool, generator = PairPool(6), torch.Generator().manual_seed(0)
    for first in (0, 2, 4):
        lr, hr = pool.exchange(*batch(first), generator)
        assert numbers(lr) == numbers(hr) == [first, first + 1]
    out: list[int] = []
    for first in range(6, 46, 2):
        lr, hr = pool.exchange(*batch(first), generator)
        assert lr.shape == (2, 3, 2, 2) and hr.shape == (2, 3, 4, 4)
        assert lr.dtype == hr.dtype == torch.float32
        assert numbers(lr) == numbers(hr)  # pairs stay pairs
        out += numbers(lr)
    left = numbers(pool.state_dict()["lr"] / 255)
    assert sorted(out + left) == list(range(46))
    assert out != sorted(out)


def test_pairs_leave_as_they_came() -> None:
    pool, generator = PairPool(2), torch.Generator().manual_seed(0)
    lr = torch.randint(256, (2, 3, 2, 2), generator=generator) / 255
    hr = torch.randint(256, (2, 3, 4, 4), generator=generator) / 255
    pool.exchange(lr, hr, generator)
    back_lr, back_hr = pool.exchange(*batch(0), generator)
    same = [0, 1] if torch.equal(back_lr[0], lr[0]) else [1, 0]
    torch.testing.assert_close((back_lr[same], back_hr[same]), (lr, hr), rtol=0, atol=0)


def test_a_restored_pool_goes_on_as_the_saved_one() -> None:
    pool, generator = PairPool(4), torch.Generator().manual_seed(0)
    for first in range(0, 10, 2):
        pool.exchange(*batch(first), generator)
    other, saved = PairPool(4), generator.get_state()
    other.load_state_dict(pool.state_dict())
    expected = [numbers(pool.exchange(*batch(first), generator)[0]) for first in range(10, 18, 2)]
    generator.set_state(saved)
    found = [numbers(other.exchange(*batch(first), generator)[1]) for first in range(10, 18, 2)]
    assert found == expected
    empty = PairPool(4)
    empty.load_state_dict(PairPool(4).state_dict())
    assert numbers(empty.exchange(*batch(0), generator)[0]) == [0, 1]


def test_crops_of_a_pair_show_the_same_place() -> None:
    lr = torch.arange(5 * 7.0).view(1, 1, 5, 7)
    hr = lr.repeat_interleave(4, 2).repeat_interleave(4, 3)
    generator = torch.Generator().manual_seed(0)
    corners = set()
    for _ in range(150):
        low, high = crop_pairs(lr, hr, 3, generator)
        assert low.shape == (1, 1, 3, 3)
        torch.testing.assert_close(low.repeat_interleave(4, 2).repeat_interleave(4, 3), high)
        corners.add(int(low[0, 0, 0, 0]))
    assert corners == {7 * row + column for row in range(3) for column in range(5)}


def test_pairs_are_drawn_again_and_stay() -> None:
    pool = PairPool(4)
    generator = torch.Generator().manual_seed(0)
    pairs = torch.arange(4).view(4, 1, 1, 1).expand(4, 3, 2, 2) / 255
    assert not pool.is_full
    pool.exchange(pairs, 10 * pairs, generator)
    assert pool.is_full
    seen = set()
    for _ in range(8):
        lr, hr = pool.draw(3, generator)
        assert torch.equal(hr, 10 * lr)
        numbers = (lr[:, 0, 0, 0] * 255).round().int().tolist()
        assert len(set(numbers)) == 3
        seen |= set(numbers)
    assert seen == {0, 1, 2, 3}
