"""Published names of the parameters of ESSNet's release, with and without embeddings.

The names are those behind ``classifier.``, which stands for the whole decode head; those of the
backbone are the same in both layouts.
"""

PREFIX = "classifier."

CONVOLUTIONS = (
    ("project.", "lateral."),
    ("aspp.project.", "aspp.bottleneck."),
    ("aspp.convs.#.", "aspp.branches.#."),
    ("classifier.", "fusion."),
)
PAIRS = [
    # The branch of the pooled map is the last one and begins with the pooling.
    ("aspp.convs.4.1.*", "decoder.aspp.image_pool.conv.*"),
    ("aspp.convs.4.2.*", "decoder.aspp.image_pool.norm.*"),
    *((f"{published}0.*", f"decoder.{ours}conv.*") for published, ours in CONVOLUTIONS),
    *((f"{published}1.*", f"decoder.{ours}norm.*") for published, ours in CONVOLUTIONS),
    ("embedding.*", "embedding_table.*"),
]
EMBEDDINGS = [*PAIRS, ("classifier.3.*", "pixel_proj.*")]
SOFTMAX = [*PAIRS, ("classifier.3.*", "classifier.linear.*")]
