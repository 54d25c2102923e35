"""Prompt templates by name.

Sources: CAT-Seg (CVPR 2024), section 4 ("A photo of a {} in the scene"); CLIP's ImageNet templates;
GroupViT (CVPR 2022), section 4 ("a photo of a {}.").
"""

from collections.abc import Callable, Sequence

import open_clip

from segcore.errors import UserError

TEMPLATES: dict[str, Sequence[Callable[[str], str]]] = {
    "single": ["A photo of a {} in the scene".format],
    "imagenet": open_clip.OPENAI_IMAGENET_TEMPLATES,  # 80
    "photo": ["a photo of a {}.".format],
    "imagenet_subset": open_clip.SIMPLE_IMAGENET_TEMPLATES,  # 7, which CLIP's authors selected
}


def prompt_templates(name: str) -> Sequence[Callable[[str], str]]:
    """Return the prompt templates of a name: functions from a class name to a prompt.

    Raises:
        UserError: there is no such name.
    """
    if name not in TEMPLATES:
        raise UserError(
            f"MODEL.PROMPT_ENSEMBLE_TYPE is '{name}': use one of {', '.join(TEMPLATES)}."
        )
    return TEMPLATES[name]
