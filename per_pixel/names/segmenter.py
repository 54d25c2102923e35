"""Published names of the parameters of Segmenter's decode head, with and without RankSeg.

Two layouts: that of RankSeg's code, which numbers the layer of the multi-label head with those of
the mask transformer, and mmsegmentation's own. Names are those behind ``decode_head.``.
"""

from .query2label import decoder_pairs

# mmsegmentation multiplies by linear layers, whose matrices are the transposes of ours.
TRANSPOSED = ("patch_proj.weight", "classes_proj.weight")
# What published files contain beside parameters: a table of positions, which the model computes.
COMPUTED = ("img_cls_head.position_embedding.pe",)

HEADS = (None, "encoder", "decoder", "gap", "oracle")

MMSEGMENTATION = [
    ("dec_proj.*", "input_proj.*"),
    ("patch_proj.weight", "transformer.pixel_proj"),
    ("classes_proj.weight", "transformer.class_proj"),
    ("layers.#.ln1.*", "transformer.blocks.#.norm1.*"),
    ("layers.#.attn.attn.in_proj_weight", "transformer.blocks.#.attn.qkv.weight"),
    ("layers.#.attn.attn.in_proj_bias", "transformer.blocks.#.attn.qkv.bias"),
    ("layers.#.attn.attn.out_proj.*", "transformer.blocks.#.attn.proj.*"),
    ("layers.#.ln2.*", "transformer.blocks.#.norm2.*"),
    ("layers.#.ffn.layers.0.0.*", "transformer.blocks.#.mlp.fc1.*"),
    ("layers.#.ffn.layers.1.*", "transformer.blocks.#.mlp.fc2.*"),
]

ENCNET = [
    ("bottleneck.conv.*", "context.bottleneck.*"),
    ("enc_module.encoding_project.conv.*", "context.projection.*"),
    ("enc_module.encoding.0.codewords", "context.encoding.codewords"),
    ("enc_module.encoding.0.scale", "context.encoding.smoothing"),
    ("enc_module.encoding.1.*", "context.norm.*"),
    ("enc_module.fc.0.*", "context.gate.*"),
    ("se_layer.*", "context.classifier.*"),
]

_ENCODER = [
    ("blocks.0.*", "ranking.head.block.*"),
    ("decoder_norm2.*", "ranking.head.norm.*"),
    ("ml_fc.W", "ranking.head.classifier.weight"),
    ("ml_fc.b", "ranking.head.classifier.bias"),
]
_DECODER = [
    ("img_cls_head.input_proj.*", "ranking.head.input_proj.*"),
    *decoder_pairs("img_cls_head.", "ranking.head."),
]
_GAP = [
    ("img_cls_head.1.conv.*", "ranking.head.input_proj.*"),
    ("img_cls_head.2.*", "ranking.head.classifier.*"),
]
_ORACLE = [("mask_norm.gamma", "ranking.scores.weight"), ("mask_norm.beta", "ranking.scores.bias")]
_PARTS = {None: ENCNET, "encoder": _ENCODER, "decoder": _DECODER, "gap": _GAP, "oracle": _ORACLE}


def head_pairs(ranking: str | None, num_layers: int = 2) -> list[tuple[str, str]]:
    """Return the pairs (published, ours) of a :class:`segcore.checkpoint.renaming.Renaming`.

    Args:
        ranking: one of ``HEADS``: the multi-label head, the oracle, or None without RankSeg.
        num_layers: of the mask transformer.
    """
    first = int(ranking == "encoder")  # the layer before them is that of the multi-label head
    blocks = [(f"blocks.{first + i}.*", f"transformer.blocks.{i}.*") for i in range(num_layers)]
    norm = [] if ranking is None else [("mask_norm.*", "ranking.scores.*")]
    return [
        ("cls_emb", "class_embeddings"),
        ("proj_dec.*", "input_proj.*"),
        ("proj_patch", "transformer.pixel_proj"),
        ("proj_classes", "transformer.class_proj"),
        ("decoder_norm.*", "transformer.norm.*"),
        *_PARTS[ranking],
        *norm,
        *blocks,
        *MMSEGMENTATION,
    ]
