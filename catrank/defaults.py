"""Which model segments where none is named."""

FIXED_CLASSES = "deeplabv3-mobilenet-voc"  # ships: works at once, without a download
OPEN_VOCABULARY = "catseg-vitb"


def default_model(*, with_class_names: bool) -> str:
    """Return the name of the model for a user's class names, or else for everyday objects."""
    return OPEN_VOCABULARY if with_class_names else FIXED_CLASSES
