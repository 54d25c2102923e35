"""Names in the released checkpoints of GroupViT, as pairs for ``segcore.checkpoint.renaming``."""

MARK = "img_encoder."  # begins names of these checkpoints alone

_STAGE, _OURS = "img_encoder.layers.#.", "image_encoder.stages.#."
_GROUPING, _OUR_GROUPING = f"{_STAGE}downsample.", f"{_OURS}grouping."
PROJECTIONS = (("q_proj", "query"), ("k_proj", "key"), ("v_proj", "value"), ("proj", "output"))

PAIRS = [
    ("img_encoder.pos_embed", "image_encoder.positions"),
    ("img_encoder.patch_embed.proj.*", "image_encoder.patches.*"),
    ("img_encoder.patch_embed.norm.*", "image_encoder.patch_norm.*"),
    ("img_encoder.norm.*", "image_encoder.norm.*"),
    (f"{_STAGE}group_token", f"{_OURS}group_tokens"),
    (f"{_STAGE}group_projector.0.*", f"{_OURS}group_projection.norm.*"),
    (f"{_STAGE}group_projector.1.*", f"{_OURS}group_projection.mlp.*"),
    (f"{_STAGE}blocks.*", f"{_OURS}blocks.*"),
    (f"{_GROUPING}norm_tokens.*", f"{_OUR_GROUPING}group_mixer.norm.*"),
    (f"{_GROUPING}mlp_inter.*", f"{_OUR_GROUPING}group_mixer.mlp.*"),
    (f"{_GROUPING}norm_post_tokens.*", f"{_OUR_GROUPING}group_norm.*"),
    (f"{_GROUPING}norm_x.*", f"{_OUR_GROUPING}token_norm.*"),
    *(
        (f"{_GROUPING}pre_assign_attn.attn.{name}.*", f"{_OUR_GROUPING}reader.attention.{ours}.*")
        for name, ours in PROJECTIONS
    ),
    (f"{_GROUPING}pre_assign_attn.norm2.*", f"{_OUR_GROUPING}reader.mlp_norm.*"),
    (f"{_GROUPING}pre_assign_attn.mlp.*", f"{_OUR_GROUPING}reader.mlp.*"),
    (f"{_GROUPING}pre_assign_attn.norm_post.*", f"{_OUR_GROUPING}reader.norm.*"),
    *(
        (f"{_GROUPING}assign.{name}.*", f"{_OUR_GROUPING}assignment.{ours}.*")
        for name, ours in PROJECTIONS
    ),
    (f"{_GROUPING}norm_new_x.*", f"{_OUR_GROUPING}mlp_norm.*"),
    (f"{_GROUPING}mlp_channels.*", f"{_OUR_GROUPING}mlp.*"),
    *(
        (f"{published}.{name}.*", f"{ours}.{layer}.*")
        for published, ours in (
            ("img_projector", "image_projector"),
            ("text_projector", "text_projector"),
        )
        for name, layer in (
            ("linear_hidden.0", "hidden"),
            ("linear_hidden.1", "norm"),
            ("linear_out", "output"),
        )
    ),
]
