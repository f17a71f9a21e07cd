"""The authors' parameter names and ours, and what sizes they tell."""

import pytest
import torch

from esc_sr import families
from esc_sr.families import variant
from esc_sr.families.esc import ESC, ESCConfig, detect
from esc_sr.families.esc.presets import PRESETS
from esc_sr.families.lte import LTEConfig
from weights_files import VARIANTS, published_shapes

PRESET_OF = {
    "esc": "esc",
    "esc_light": "esc-light",
    "esc_fp": "esc-fp",
    "esc_xl": "esc-xl",
    "esc_real": "esc-real",
    "esc_real_xl": "esc-real-xl",
}


def config_of(name: str) -> ESCConfig | LTEConfig:
    """The sizes that a published list of names should be recognised as."""
    if name == "esc_lte":
        return LTEConfig(PRESETS["esc"][2])
    if name == "esc_real_x4_dysample":
        return ESCConfig(**{**vars(PRESETS["esc-real"][4]), "upsampler": "dysampledirect"})
    if name.startswith("esc_realm"):
        _, _, scale, upsampler = name.split("_")
        known = {"nearest": "nearest+conv"}.get(upsampler, upsampler)
        return ESCConfig(**{**vars(PRESETS["esc-real-m"][int(scale[1:])]), "upsampler": known})
    family, _, scale = name.rpartition("_x")
    return PRESETS[PRESET_OF[family]][int(scale)]


@pytest.mark.parametrize("name", VARIANTS)
def test_published_names_map_to_ours_and_back_without_remainder(name: str) -> None:
    shapes, parameters = published_shapes(name)
    shapes.pop(detect.META_NAME, None)
    tensors = {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
    family, found = next((f, found) for f in families.FAMILIES if (found := f.detect(tensors)))
    assert found.names.keys() == shapes.keys()
    assert len(set(found.names.values())) == len(found.names)

    assert found.config == config_of(name)
    model = families.blank(found.config)
    built = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    assert built == {found.names[key]: shape for key, shape in shapes.items()}
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters

    back = family.official_names(found.config, built)
    assert back == {our: key for key, our in found.names.items()}


def test_preset_is_named() -> None:
    assert variant(PRESETS["esc-light"][3]) == "esc-light"
    assert variant(PRESETS["esc-real-m"][1]) == "esc-real-m"
    assert variant(LTEConfig()) == "esc-lte"
    assert variant(ESCConfig(n_blocks=4)) is None


def test_every_expansion_gives_its_hidden_width_back() -> None:
    for dim in (16, 48, 49, 60, 64, 96, 100, 192):
        for hidden in range(1, 4 * dim + 1):
            assert int(dim * detect._ratio(hidden, dim)) == hidden


@pytest.mark.parametrize("told, scale", [(2, 2), (3, 3), (None, 3)])
def test_nearest_conv_x2_and_x3_look_the_same_and_are_told_apart(told: int | None, scale: int) -> None:
    config = ESCConfig(scale=2, skip="conv", upsampler="nearest+conv", ffn_norm=True)
    shapes = {key: tuple(tensor.shape) for key, tensor in ESC(config).state_dict().items()}
    found = detect.infer(shapes, told)
    assert isinstance(found, ESCConfig)
    assert found.scale == scale
