"""Published names of the parameters of decoders of convolutions, and of their classifiers.

mmsegmentation's DeepLabv3, UPerNet and auxiliary heads, and RankSeg's classifier. Names are those
behind ``decode_head.`` or ``auxiliary_head.``.
"""

# Convolutions with a norm, in the order of DeepLabv3, UPerNet and the auxiliary head.
CONVOLUTIONS = (
    ("image_pool.1.", "decoder.image_pool."),
    ("aspp_modules.#.", "decoder.branches.#."),
    ("psp_modules.#.1.", "decoder.pools.#."),
    ("lateral_convs.#.", "decoder.lateral.#."),
    ("fpn_convs.#.", "decoder.smooth.#."),
    ("fpn_bottleneck.", "decoder.fusion."),
    ("bottleneck.", "decoder.bottleneck."),
    ("convs.#.", "decoder.convs.#."),
)
RANKING = "classifier.ranking."
PAIRS = [
    *((f"{published}conv.*", f"{ours}conv.*") for published, ours in CONVOLUTIONS),
    *((f"{published}bn.*", f"{ours}norm.*") for published, ours in CONVOLUTIONS),
    ("conv_seg.*", "classifier.linear.*"),
    ("cls_emb", "classifier.class_table"),
    ("cls_bias_emb", "classifier.class_bias"),
    ("norm.*", f"{RANKING}scores.*"),
    ("img_cls_head.proj_dec.depthwise_conv.conv.*", f"{RANKING}head.input_proj.depthwise.*"),
    ("img_cls_head.proj_dec.pointwise_conv.conv.*", f"{RANKING}head.input_proj.pointwise.*"),
    ("img_cls_head.proj_cls_emb.*", f"{RANKING}head.token_proj.*"),
    ("img_cls_head.cls_emb", f"{RANKING}head.class_embeddings"),
    ("img_cls_head.fc.W", f"{RANKING}head.classifier.weight"),
    ("img_cls_head.fc.b", f"{RANKING}head.classifier.bias"),
    ("img_cls_head.*", f"{RANKING}head.*"),
]
