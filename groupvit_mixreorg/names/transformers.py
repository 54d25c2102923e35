"""Names in transformers' checkpoints of GroupViT, as pairs for ``segcore.checkpoint.renaming``.

Its blocks have separate matrices for query, key and value, ``q_proj``, ``k_proj`` and ``v_proj``;
one that joins the three is called ``qkv_proj`` here.
"""

from . import groupvit

MARK = "vision_model."  # begins names of these checkpoints alone
STARTS = (MARK, "text_model.", "visual_projection.", "text_projection.")

_VISION, _TEXT = "vision_model.encoder.stages.#.", "text_model.encoder.layers.#."
_OURS, _OUR_TEXT = "image_encoder.stages.#.", "text_encoder.transformer.resblocks.#."

# Buffers of older files that the models compute.
IGNORED = ("text_model.embeddings.position_ids",)

_JOINED = [
    (f"{_VISION}layers.#.self_attn.qkv_proj.*", f"{_OURS}blocks.#.attn.qkv.*"),
    (f"{_TEXT}self_attn.qkv_proj.*", f"{_OUR_TEXT}attn.in_proj_*"),
]

# The grouping blocks are called as in the release, but for one layer.
_GROUPING = [
    (
        published.replace("img_encoder.layers.", "vision_model.encoder.stages.").replace(
            "pre_assign_attn.attn.proj.", "pre_assign_attn.attn.out_proj."
        ),
        ours,
    )
    for published, ours in groupvit.PAIRS
    if ".downsample." in published or ".group_" in published
]

PAIRS = [
    *_JOINED,
    *_GROUPING,
    ("vision_model.embeddings.position_embeddings", "image_encoder.positions"),
    ("vision_model.embeddings.patch_embeddings.projection.*", "image_encoder.patches.*"),
    ("vision_model.embeddings.layernorm.*", "image_encoder.patch_norm.*"),
    ("vision_model.layernorm.*", "image_encoder.norm.*"),
    (f"{_VISION}layers.#.self_attn.out_proj.*", f"{_OURS}blocks.#.attn.proj.*"),
    (f"{_VISION}layers.#.layer_norm#.*", f"{_OURS}blocks.#.norm#.*"),
    (f"{_VISION}layers.#.mlp.*", f"{_OURS}blocks.#.mlp.*"),
    ("text_model.embeddings.token_embedding.*", "text_encoder.token_embedding.*"),
    ("text_model.embeddings.position_embedding.weight", "text_encoder.positional_embedding"),
    ("text_model.final_layer_norm.*", "text_encoder.ln_final.*"),
    (f"{_TEXT}self_attn.out_proj.*", f"{_OUR_TEXT}attn.out_proj.*"),
    (f"{_TEXT}layer_norm#.*", f"{_OUR_TEXT}ln_#.*"),
    (f"{_TEXT}mlp.fc1.*", f"{_OUR_TEXT}mlp.c_fc.*"),
    (f"{_TEXT}mlp.fc2.*", f"{_OUR_TEXT}mlp.c_proj.*"),
    *(
        (f"{published}.{number}.*", f"{ours}.{layer}.*")
        for published, ours in (
            ("visual_projection", "image_projector"),
            ("text_projection", "text_projector"),
        )
        for number, layer in ((0, "hidden"), (1, "norm"), (3, "output"))
    ),
]
