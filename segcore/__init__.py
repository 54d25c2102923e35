"""What the families of CatRank share: configs, vocabularies, data, evaluation and the engine.

Everything here stands on Detectron2, the real one or the small stand-in in ``d2lite/``.
"""

try:
    import detectron2  # noqa: F401
except ImportError as error:
    raise ImportError(
        "CatRank needs Detectron2: install it, or its small stand-in with "
        "`pip install ./d2lite` from the CatRank source folder."
    ) from error
