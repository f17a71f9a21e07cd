"""Recipes: what to train with, and what becomes of pictures, crops, batches and scores on the way."""

from esc_sr.train.recipes.arbitrary import Arbitrary
from esc_sr.train.recipes.base import Recipe
from esc_sr.train.recipes.classic import Classic
from esc_sr.train.recipes.own import load_own
from esc_sr.train.recipes.real import RealGAN, RealMSE, learnt_degraded
from esc_sr.train.recipes.settings import override, to_toml

__all__ = [
    "Arbitrary",
    "Classic",
    "RealGAN",
    "RealMSE",
    "Recipe",
    "learnt_degraded",
    "load_own",
    "override",
    "to_toml",
]
