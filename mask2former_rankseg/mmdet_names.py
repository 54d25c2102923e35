"""Names of Mask2Former's head in mmdetection 2, which ViT-Adapter's released models have.

Source: https://github.com/czczup/ViT-Adapter, segmentation; the keys of its released models.
"""

PIXEL, PREDICTOR = "sem_seg_head.pixel_decoder.", "sem_seg_head.predictor."
PREFIX = "decode_head."


def pairs() -> list[tuple[str, str]]:
    """Return the pairs (published, ours) of :class:`segcore.checkpoint.renaming.Renaming`."""
    found = []
    for published, ours in (
        ("input_convs.#", "input_proj.#"),
        ("lateral_convs.0", "lateral"),
        ("output_convs.0", "smooth"),
    ):
        found.append((f"{PREFIX}pixel_decoder.{published}.conv.*", f"{PIXEL}{ours}.0.*"))
        found.append((f"{PREFIX}pixel_decoder.{published}.gn.*", f"{PIXEL}{ours}.1.*"))
    encoder, decoder = "pixel_decoder.encoder.layers.#.", "transformer_decoder.layers.#."
    found.append((f"{PREFIX}{encoder}attentions.0.*", f"{PIXEL}layers.#.attention.*"))
    for layer, ours, norms in (
        (encoder, PIXEL, ("norm1", "norm2")),
        (decoder, PREDICTOR, ("cross_norm", "self_norm", "norm")),
    ):
        found.append((f"{PREFIX}{layer}ffns.0.layers.0.0.*", f"{ours}layers.#.linear1.*"))
        found.append((f"{PREFIX}{layer}ffns.0.layers.1.*", f"{ours}layers.#.linear2.*"))
        for number, norm in enumerate(norms):
            found.append((f"{PREFIX}{layer}norms.{number}.*", f"{ours}layers.#.{norm}.*"))
    for number, kind in enumerate(("cross", "self")):
        published = f"{PREFIX}{decoder}attentions.{number}.attn."
        attention = f"{PREDICTOR}layers.#.{kind}_attention."
        for part in ("weight", "bias"):
            found.append((f"{published}in_proj_{part}", f"{attention}in_proj.{part}"))
        found.append((f"{published}out_proj.*", f"{attention}out_proj.*"))
    return [
        *found,
        (f"{PREFIX}pixel_decoder.level_encoding.weight", f"{PIXEL}level_embed"),
        (f"{PREFIX}pixel_decoder.mask_feature.*", f"{PIXEL}mask_features.*"),
        (f"{PREFIX}transformer_decoder.post_norm.*", f"{PREDICTOR}norm.*"),
        (f"{PREFIX}cls_embed.*", f"{PREDICTOR}classifier.*"),
        *(
            (f"{PREFIX}{part}.*", f"{PREDICTOR}{part}.*")
            for part in ("query_embed", "query_feat", "level_embed", "mask_embed")
        ),
    ]
