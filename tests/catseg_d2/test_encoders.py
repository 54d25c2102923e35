"""EVA-02-CLIP and SigLIP encoders: dense embeddings, text, names of weights, fine-tuning."""

import json
from collections.abc import Callable
from pathlib import Path

import open_clip
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from catseg_d2.checkpoint import load_clip_weights
from catseg_d2.encoders import EncoderOptions, ImageTextEncoder, build_encoders, set_trainable
from catseg_d2.encoders.timm_trunk import build_trunk
from segcore.config import load_config
from segcore.errors import UserError
from segcore.text import embed_prompts
from segcore.text.siglip import SiglipTokenizer

EVA, SIGLIP = "tiny-eva", "tiny-siglip"
SIZES = {"img_size": 16, "patch_size": 4, "embed_dim": 24, "depth": 3, "num_heads": 2}
TEXT = {"width": 16, "heads": 2, "layers": 2}
CONFIGS = {
    EVA: {
        "embed_dim": 12,
        "custom_text": True,
        "vision_cfg": {
            "timm_model_name": "eva02_base_patch16_clip_224",
            "timm_kwargs": SIZES | {"ref_feat_shape": (2, 2)},
            "timm_pool": "token",
            "timm_proj": None,
        },
        "text_cfg": TEXT | {"context_length": 20, "vocab_size": 49408},
    },
    SIGLIP: {
        "embed_dim": 24,
        "custom_text": True,
        "vision_cfg": {
            "timm_model_name": "vit_base_patch16_siglip_224",
            "timm_kwargs": SIZES,
            "timm_pool": "map",
            "timm_proj": "none",
        },
        "text_cfg": TEXT
        | {
            "context_length": 12,
            "vocab_size": 200,
            "tokenizer_kwargs": {"clean": "canonicalize"},
            "no_causal_mask": True,
            "proj_bias": True,
            "pool_type": "last",
        },
    },
}
BOTH = pytest.mark.parametrize("name", [EVA, SIGLIP])


@pytest.fixture(scope="module", autouse=True)
def models(tmp_path_factory) -> None:
    folder = tmp_path_factory.mktemp("models")
    for name, config in CONFIGS.items():
        (folder / f"{name}.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder)


def build(name: str, **options: object) -> ImageTextEncoder:
    torch.manual_seed(0)
    encoders = build_encoders(name, EncoderOptions(**options)).eval()
    with torch.no_grad():
        for parameter in encoders.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return encoders


def images(side: int = 16) -> Tensor:
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))


@BOTH
@torch.no_grad()
def test_the_global_embedding_is_that_of_the_library(name: str) -> None:
    """Weights of timm, under its names, in timm's own forward pass."""
    encoders = build(name)
    trunk = build_trunk(CONFIGS[name]).eval()
    for parameter in trunk.parameters():
        parameter.add_(0.2 * torch.randn_like(parameter))
    encoders.load_state_dict(trunk.state_dict(), strict=False)
    expected = F.normalize(trunk(images()), dim=-1)
    torch.testing.assert_close(encoders.embed_image(images()), expected)


@BOTH
@pytest.mark.parametrize("side", [16, 24])
@torch.no_grad()
def test_dense_embeddings_are_global_ones_of_a_read_out_of_one_token(name: str, side: int) -> None:
    encoders = build(name)
    dense, guidance = encoders.encode_image(images(side))
    grid = (side // 4, side // 4)
    assert dense.shape[2:] == guidance[0].shape[2:] == grid
    x, _ = encoders.embed_patches(images(side))
    for block in encoders.mixing_blocks:
        x = encoders.run_vision_block(block, x, grid)
    for token in (0, 5):
        if name == EVA:
            forced = torch.full((x.shape[1], x.shape[1]), -torch.inf)
            forced[:, 1 + token] = 0
            rotations = encoders.trunk.rope.get_embed(list(grid))
            last = encoders.trunk.blocks[-1](x, rope=rotations, attn_mask=forced)
            expected = encoders.read_out_global(last)
        else:
            expected = encoders.read_out_global(x[:, token : token + 1])
        torch.testing.assert_close(dense.flatten(2)[:, :, token], expected)


@torch.no_grad()
def test_own_residual_is_a_switch() -> None:
    dense = build(EVA).encode_image(images())[0]
    own = build(EVA, dense_residual="own").encode_image(images())[0]
    assert (dense - own).abs().max() > 0.01


@BOTH
@torch.no_grad()
def test_prompts_enter_the_first_blocks(name: str) -> None:
    plain = build(name).encode_image(images())[0]
    prompted = build(name, prompt_length=2, prompt_depth=2)
    dense = prompted.encode_image(images())[0]
    assert dense.shape == plain.shape and (dense - plain).abs().max() > 1e-3


@torch.no_grad()
def test_padding_is_left_out_where_text_attention_is_causal() -> None:
    encoders = build(EVA)
    tokens = encoders.tokenizer(["a red circle", "grass"])
    longest = int(encoders.tokenizer.lengths(tokens).max())
    assert longest < encoders.tokenizer.context_length
    short = encoders.encode_text(tokens[:, :longest])
    torch.testing.assert_close(short, encoders.encode_text(tokens))


@torch.no_grad()
def test_padding_counts_where_text_attention_is_full() -> None:
    encoders = build(SIGLIP)
    tokens = torch.ones(2, 12, dtype=torch.long)
    tokens[:, :3] = torch.tensor([[5, 9, 7], [100, 4, 3]])
    assert (encoders.tokenizer.lengths(tokens) == 12).all()
    full = encoders.encode_text(tokens)
    zeros = encoders.encode_text(tokens.masked_fill(torch.arange(12) > 3, 0))
    assert (full - zeros).abs().max() > 1e-3
    encoders.text.positional_embedding = torch.nn.Parameter(encoders.text.positional_embedding[:4])
    assert (full - encoders.encode_text(tokens[:, :4])).abs().max() > 1e-3


@torch.no_grad()
def test_chunks_of_prompts_do_not_change_embeddings() -> None:
    encoders = build_encoders("scenes-siglip", scenes_options()).eval()
    names = ["grass", "zebra crossing", "red plain circle", "sky"]
    once = embed_prompts(encoders, names, "single")
    chunked = embed_prompts(encoders, names, "single", memory=64 * 64 * 40)
    torch.testing.assert_close(chunked, once)


def scenes_options() -> EncoderOptions:
    from catseg_d2.encoders import own_tokenizer

    pytest.importorskip("tokenizers")
    return EncoderOptions(tokenizer=own_tokenizer("scenes-siglip"))


def test_trained_parameters() -> None:
    eva, siglip = build(EVA), build(SIGLIP)

    def trained(encoders: ImageTextEncoder, mode: str) -> set[str]:
        set_trainable(encoders, mode)
        return {name for name, p in encoders.named_parameters() if p.requires_grad}

    text = {
        f"text.transformer.resblocks.{i}.attn.{part}_proj_weight" for i in (0, 1) for part in "qv"
    }
    blocks = [f"visual.trunk.blocks.{i}.attn." for i in range(3)]
    assert trained(eva, "attention") == text | {
        f"{block}{part}_proj.weight" for block in blocks for part in "qv"
    }
    pool = "visual.trunk.attn_pool.attn."
    assert trained(siglip, "attention") == text | {
        f"{block}{part}_proj_weight" for block in (*blocks, pool) for part in "qv"
    }
    full = trained(siglip, "full")
    assert {"visual.trunk.attn_pool.latent", "visual.trunk.blocks.0.norm1.weight"} <= full
    assert not {"visual.trunk.pos_embed", "text.ln_final.weight", "logit_scale"} & full
    everything = {name for name, _ in siglip.named_parameters()}
    assert trained(siglip, "all") == everything - {"logit_bias"}
    assert trained(eva, "frozen") == trained(siglip, "prompt") == set()


@BOTH
@pytest.mark.parametrize("checkpointing", [False, True])
def test_every_trainable_parameter_gets_a_gradient(name: str, checkpointing: bool) -> None:
    encoders = build(name, prompt_length=1, prompt_depth=1, checkpointing=checkpointing).train()
    set_trainable(encoders, "all")
    encoders.logit_scale.requires_grad_(False)
    dense, guidance = encoders.encode_image(images())
    text = encoders.encode_text(torch.tensor([[3, 49000 if name == EVA else 7, *[1] * 10]]))
    (dense.sum() + text.sum() + sum(x.sum() for x in guidance)).backward()
    for key, parameter in encoders.named_parameters():
        assert not parameter.requires_grad or parameter.grad is not None, key


@BOTH
@torch.no_grad()
def test_reduced_precision(name: str) -> None:
    encoders = build(name)
    dense, _ = encoders.encode_image(images())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low, _ = encoders.encode_image(images())
    text = F.normalize(torch.randn(5, encoders.joint_width), dim=1)
    cost, low = (
        torch.einsum("bchw,kc->bkhw", F.normalize(x.float(), dim=1), text) for x in (dense, low)
    )
    assert 0 < (cost - low).abs().max() < 2e-2


# ---------------------------------------------------------------------- names of weights


def of_authors(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename weights of EVA-02 as in its authors' files, from their description."""
    ends = {
        "attn.q_proj.bias": "attn.q_bias",
        "attn.v_proj.bias": "attn.v_bias",
        "attn.norm.weight": "attn.inner_attn_ln.weight",
        "attn.norm.bias": "attn.inner_attn_ln.bias",
        **{
            f"mlp.{ours}.{kind}": f"mlp.{theirs}.{kind}"
            for ours, theirs in (
                ("fc1_g", "w1"),
                ("fc1_x", "w2"),
                ("fc2", "w3"),
                ("norm", "ffn_ln"),
            )
            for kind in ("weight", "bias")
        },
    }
    renamed = {"visual.rope.freqs_cos": torch.zeros(3)}
    for name, value in fused(weights).items():
        name = name.replace("visual.trunk.", "visual.")
        for end, other in ends.items():
            if name.startswith("visual.blocks.") and name.endswith(end):
                name = name.removesuffix(end) + other
                break
        renamed[name] = value
    return renamed


def of_transformers(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename weights of SigLIP as in transformers' files, from their description."""
    renamed = {}
    for name, value in weights.items():
        parts = name.split(".")
        if name.startswith("visual.trunk.blocks."):
            stem = f"vision_model.encoder.layers.{parts[3]}."
            rest = ".".join(parts[4:])
            rest = rest.replace("norm", "layer_norm")
        elif name.startswith("text.transformer.resblocks."):
            stem = f"text_model.encoder.layers.{parts[3]}."
            rest = ".".join(parts[4:]).replace("ln_", "layer_norm")
            rest = rest.replace("c_fc", "fc1").replace("c_proj", "fc2")
        elif name.startswith("visual.trunk.attn_pool."):
            stem, rest = "vision_model.head.", ".".join(parts[3:])
            rest = rest.replace("latent", "probe").replace("norm", "layernorm")
            if rest == "attn.q_proj_weight":
                pool = weights[name.replace("q_proj", "k_proj")], weights[name.replace("q_", "v_")]
                renamed[stem + "attention.in_proj_weight"] = torch.cat([value, *pool])
                continue
            if rest.endswith("_proj_weight"):
                continue
            renamed[stem + rest.replace("attn.", "attention.")] = value
            continue
        else:
            stem, rest = (
                "",
                {
                    "visual.trunk.pos_embed": "vision_model.embeddings.position_embedding.weight",
                    "text.positional_embedding": "text_model.embeddings.position_embedding.weight",
                    "text.token_embedding.weight": "text_model.embeddings.token_embedding.weight",
                }.get(name, name),
            )
            for ours, theirs in (
                ("visual.trunk.patch_embed.proj.", "vision_model.embeddings.patch_embedding."),
                ("visual.trunk.norm.", "vision_model.post_layernorm."),
                ("text.ln_final.", "text_model.final_layer_norm."),
                ("text.text_projection.", "text_model.head."),
            ):
                rest = rest.replace(ours, theirs)
            value = value[None] if rest.startswith("logit_") else value
            value = value[0] if name == "visual.trunk.pos_embed" else value
        if rest == "attn.in_proj_bias":
            for part, bias in zip("qkv", value.chunk(3), strict=True):
                renamed[f"{stem}self_attn.{part}_proj.bias"] = bias
        else:
            rest = rest.replace("attn.", "self_attn.").replace("_proj_weight", "_proj.weight")
            renamed[stem + rest] = value
    return renamed


def fused(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Join the matrices of query, key and value as in open_clip's files."""
    joined = dict(weights)
    for name in weights:
        if name.endswith("attn.q_proj_weight"):
            stem = name.removesuffix("q_proj_weight")
            parts = [joined.pop(f"{stem}{part}_proj_weight") for part in "qkv"]
            joined[stem + "in_proj_weight"] = torch.cat(parts)
    return joined


def of_open_clip(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename weights of SigLIP as in open_clip's files, from their description."""
    renamed = {}
    for name, value in fused(weights).items():
        if name.startswith("visual.trunk.attn_pool.attn."):
            kind = name.rsplit("_", 1)[1]
            stem = "visual.trunk.attn_pool."
            if "in_proj" in name:
                query, key, value = value.chunk(3)
                renamed[f"{stem}q.{kind}"] = query
                renamed[f"{stem}kv.{kind}"] = torch.cat([key, value])
                continue
            name = name.replace("attn.out_proj", "proj")
        elif name.startswith("visual.trunk."):
            name = name.replace("attn.in_proj_", "attn.qkv.").replace("out_proj", "proj")
        renamed[name] = value
    return renamed


@pytest.mark.parametrize(
    ("name", "layout"),
    [(EVA, fused), (EVA, of_authors), (SIGLIP, of_open_clip), (SIGLIP, of_transformers)],
)
def test_published_layouts_load(name: str, layout: Callable, tmp_path: Path) -> None:
    weights = build(name).state_dict()
    file = tmp_path / "weights.pth"
    torch.save({k: v.half() for k, v in layout(weights).items()}, file)
    torch.manual_seed(1)
    other = build_encoders(name)
    load_clip_weights(other, name, str(file))
    for key, value in other.state_dict().items():
        assert value.dtype == torch.float32
        assert torch.equal(value, weights[key].half().float()), key
    # Also as a whole, in which no entry is unknown.
    assert build_encoders(name).load_state_dict(layout(weights), strict=True) == ([], [])


def test_an_image_encoder_alone_is_reported(tmp_path: Path, caplog) -> None:
    trunk = build_trunk(CONFIGS[SIGLIP])
    torch.save(trunk.state_dict(), tmp_path / "timm.pth")
    encoders = build_encoders(SIGLIP)
    load_clip_weights(encoders, SIGLIP, str(tmp_path / "timm.pth"))
    assert "text encoder starts at random" in caplog.text
    assert torch.equal(encoders.trunk.pos_embed, trunk.pos_embed)


def test_weights_of_other_encoders_are_refused(tmp_path: Path) -> None:
    torch.save(build(EVA).state_dict(), tmp_path / "eva.pth")
    with pytest.raises(UserError, match="does not fit"):
        load_clip_weights(build_encoders(SIGLIP), SIGLIP, str(tmp_path / "eva.pth"))


# ---------------------------------------------------------------------- user errors


@pytest.mark.parametrize(
    "name", ["ViT-B-16-SigLIP2-256", "EVA02-E-14", "convnext_base", "RN50", "coca_ViT-B-32"]
)
def test_models_without_a_dense_form_are_one_message(name: str) -> None:
    with pytest.raises(UserError, match=r"no dense form here: .*ViT-L-16-SigLIP-384"):
        build_encoders(name)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (SIGLIP, {"dense_residual": "own"}, "has no class token"),
        (EVA, {"dense_residual": "none"}, "use class or own"),
        (EVA, {"prompt_length": 1, "prompt_depth": 9}, "has 3 blocks"),
    ],
)
def test_options_that_do_not_fit(name: str, options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build(name, **options)


def test_images_are_normalised_as_in_pre_training() -> None:
    from detectron2.modeling import build_model

    cfg = load_config("catseg_d2/scenes_60_siglip.yaml", ["MODEL.CLIP_PIXEL_STD", "[58, 57, 57]"])
    with pytest.raises(UserError, match=r"CLIP_PIXEL_STD is \[58, 57, 57\].*127.5"):
        build_model(cfg)


def test_a_missing_tokenizer_is_one_message() -> None:
    encoders = build(SIGLIP)
    assert isinstance(encoders.tokenizer, SiglipTokenizer)
    message = "tiny-siglip needs the tokenizer .* tokenizer.json or spiece.model, .*CLIP_TOKENIZER"
    with pytest.raises(UserError, match=message):
        embed_prompts(encoders, ["cat"], "single")
