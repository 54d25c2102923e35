"""What a backbone may return in training beside its feature maps, by name.

A model that knows a name trains with it; others take the maps that they are configured with.

``SEMANTIC_LOGITS``: logits of the model's classes at every pixel of the images, (B, C, H, W), to be
trained with the classes of the pixels.
"""

SEMANTIC_LOGITS = "semantic_logits"
