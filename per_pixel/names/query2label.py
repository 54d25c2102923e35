"""Published names of Query2Label's parameters."""

# The position encodings of images of one size, which the model computes for any.
COMPUTED = "backbone.1.pe"
# A ResNet or TResNet is the body of a wrapper, a Swin is there itself.
BACKBONE = ("backbone.0.body.", "backbone.0.")


def decoder_pairs(published: str, ours: str) -> list[tuple[str, str]]:
    """Return the pairs of the decoder layers and the classifier behind two prefixes.

    The norm of the self-attention, which these layers lack, would be the first.
    """
    layers, ours_layers = f"{published}transformer.decoder.layers.#.", f"{ours}layers.#."
    return [
        (f"{layers}multihead_attn.*", f"{ours_layers}cross_attn.*"),
        (f"{layers}norm2.*", f"{ours_layers}norm1.*"),
        (f"{layers}norm3.*", f"{ours_layers}norm2.*"),
        (f"{layers}*", f"{ours_layers}*"),
        (f"{published}transformer.decoder.norm.*", f"{ours}norm.*"),
        (f"{published}fc.W", f"{ours}classifier.weight"),
        (f"{published}fc.b", f"{ours}classifier.bias"),
    ]


HEAD = [
    ("input_proj.*", "head.input_proj.*"),
    ("transformer.encoder.layers.#.self_attn.*", "head.encoder.#.cross_attn.*"),
    ("transformer.encoder.layers.#.*", "head.encoder.#.*"),
    ("query_embed.weight", "head.decoder.class_embeddings"),
    *decoder_pairs("", "head.decoder."),
]
