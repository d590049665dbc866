"""What adapters understand of a case's words: settings are taken, held against the state, or refused by name."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from parity_case import Case  # noqa: E402
from parity_words import Said, blocks, layers_called, nothing  # noqa: E402

import torchspectral as ts  # noqa: E402


def case(constructor: Any, notes: str = "", **meta: Any) -> Case:
    return Case("made", HERE, {"system": "x", "constructor": constructor, "notes": notes, "output": {}, **meta})


def adapter(name: str) -> Any:
    import importlib.util

    spec = importlib.util.spec_from_file_location(f"_words_{name}", HERE / "adapters" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def shapes(name: str, **arguments: Any) -> dict[str, Any]:
    import torch

    with torch.device("meta"):
        state = ts.create_model(name, **arguments).state_dict()
    return {k: [list(v.shape), str(v.dtype).removeprefix("torch.")] for k, v in state.items()}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("Net(a=1, b=2.5e-3, c=True, d='x', e=None, f=[1, 2], g=(3, 4))", {"a": 1, "b": 2.5e-3, "c": True, "d": "x", "e": None, "f": [1, 2], "g": (3, 4)}),
        ({"a": 1, "f": [1, 2]}, {"a": 1, "f": [1, 2]}),
        ("outer(inner(depth=2), depth=3); mask_ratio 0.75", {"depth": 2, "ratio": 0.75}),
        ("Net(x); mask ratio: .5, norm_pix on", {"ratio": 0.5, "norm_pix": True}),
        ("Net(x), without norm_pix", {}),
        ("logits == forward", {}),
    ],
    ids=str,
)  # fmt: skip
def test_settings_are_read(words: Any, expected: dict[str, Any]) -> None:
    assert Said(case(words), {"mask_ratio": "ratio"}, ("mask_ratio", "norm_pix")).found == expected


def test_nothing_is_passed_over() -> None:
    said = Said(case("Net(depth=2, gate='swish', drop=0.0, eps=1e-6)"))
    assert said.agree("depth", 2) == 2
    with pytest.raises(ValueError, match=r"'gate': 'swish', 'drop': 0.0"):
        said.finish(("eps",))
    said.finish(("eps", "gate"), {"drop": nothing})
    with pytest.raises(ValueError, match="depth=2, the shapes of its state 3"):
        said.agree("depth", 3)
    called = layers_called(Said(case("'raw' = net.get_intermediate_layers(x, n=[0, 3], reshape=True)[1]")), "raw")
    assert called == {"n": [0, 3], "reshape": True, "index": 1}
    assert blocks(["blocks.0.a", "blocks.11.b", "decoder_blocks.20.a"]) == 12


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("SpecResNet50(num_classes=19)", [False] * 4),
        ("SpecResNet50(dilated=True)", [True] * 4),
        ("dilated SpecResNet50", [True] * 4),
        ("SpecResNet50(replace_stride_with_dilation=[False, False, True, True])", [False, False, True, True]),
        ("SpecResNet50(dilated_layers=[3, 4])", [False, False, True, True]),
        ("SpecResNet50, non-dilated", [False] * 4),
    ],
)
def test_dilated_stages(words: str, expected: list[bool]) -> None:
    module = adapter("spectralearth")
    made = case(words)
    assert module.dilated(made, Said(made, module.ALIASES, module.PROSE)) == expected


def test_stages_that_the_size_of_the_map_tells() -> None:
    module = adapter("spectralearth")
    made = case(
        "SpecResNet50, dilated", inputs={"x": {"shape": [1, 90, 32, 32]}}, output={"y": {"shape": [1, 2048, 8, 8]}}
    )
    assert module.dilated(made, Said(made)) == [False, False, True, True]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("Config(num_heads=4, use_rope_embed=True, use_perception_field_mask=True, attention_radius=200)", ("rope", 200.0, 30.0)),
        ("Config(num_heads=4), no RoPE; spatial_resolution 10", (None, None, 10.0)),
        ("Config(num_heads=4, use_rope_embed=False), sin-cos, perception field mask with radius 500 m", (None, 500.0, 30.0)),
        ({"num_heads": 4, "use_perception_field_mask": False, "attention_radius": 640}, (None, None, 30.0)),
    ],
    ids=str,
)  # fmt: skip
def test_less_vit_is_sized_by_its_state(words: Any, expected: tuple[Any, ...]) -> None:
    module = adapter("less_vit_gfm_bench")
    state = shapes(
        "less-vit-s", patch_size=8, embed_dim=64, depth=2, num_heads=4, rank=2, skip_pool=True, channel_width=8
    )
    made = case(words, state=state, inputs={"wv": {"shape": [1, 3], "seed": 1, "high": 2400}})
    found = module.of_encoder(made, Said(made, module.ALIASES, module.PROSE))
    assert (found.get("embedding"), found.get("perception_radius"), found["resolution"]) == expected
    assert {k: found[k] for k in ("patch_size", "embed_dim", "depth", "num_heads", "rank", "skip_pool", "channel_width")} == {
        "patch_size": 8, "embed_dim": 64, "depth": 2, "num_heads": 4, "rank": 2, "skip_pool": True, "channel_width": 8
    }  # fmt: skip
    wrong = case("Config(num_heads=4, rank=3)", state=state, inputs=made.params)
    with pytest.raises(ValueError, match="rank=3"):
        module.of_encoder(wrong, Said(wrong, module.ALIASES, module.PROSE))


def test_spectralgpt_is_sized_by_its_state() -> None:
    module = adapter("spectralgpt")
    sizes = {"embed_dim": 48, "depth": 2, "num_heads": 3, "image_size": 16, "bands": 24}
    state = shapes("spectralgpt-mae-b", **sizes, decoder_dim=32, decoder_depth=1, decoder_heads=4)
    inputs = {"x": {"shape": [1, 1, 24, 16, 16], "seed": 1}, "noise": {"shape": [1, 32], "seed": 2}}
    output = {"latent": {"shape": [1, 8, 48]}}
    for words, normalised in (
        ("embed 48x2x3 heads, decoder 32x1x4 heads, norm-pix @0.75", True),
        (
            "MAE(num_frames=24, t_patch_size=3, num_heads=3, decoder_num_heads=4, norm_pix_loss=False); mask_ratio 0.75",
            False,
        ),
        ("MAE(num_heads=3, decoder_num_heads=4, norm_pix_loss=True), 75 % masked", True),
    ):
        made = case(words, state=state, inputs=inputs, output=output)
        said = Said(made, module.ALIASES, module.PROSE)
        network = module.masked_autoencoder(made, said)
        assert network.norm_pix is normalised and network.decoder_blocks[0].attn.heads == 4
        assert network.blocks[0].attn.heads == 3 and int(32 * (1 - module.ratio(made, said, 32))) == 8
        said.finish(module.WORDS, module.IDLE)
    wrong = case("MAE(num_heads=3); mask_ratio=0.5", state=state, inputs=inputs, output=output)
    with pytest.raises(ValueError, match="latent has 8"):
        module.ratio(wrong, Said(wrong, module.ALIASES, module.PROSE), 32)
