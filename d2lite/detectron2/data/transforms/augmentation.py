"""Base class of augmentations, lists of them, and their input."""

import inspect
import pprint
from collections.abc import Sequence
from typing import Any

import numpy as np
from fvcore.transforms.transform import Transform, TransformList


class Augmentation:
    """A rule that samples a transform, possibly depending on the input.

    A subclass defines ``get_transform`` with the parameters it wants to see; they are found on the
    input by name ("image", "sem_seg", "boxes"); a single one is the image, whatever its name, also
    ``*args``. ``input_args`` overrides these names.
    """

    input_args: tuple[str, ...] | None = None

    def get_transform(self, *args: Any) -> Transform:
        """Sample a transform for this input."""
        raise NotImplementedError

    def __call__(self, aug_input: "AugInput") -> Transform:
        """Sample a transform, apply it to the input in place, and return it."""
        names = self.input_args
        if names is None:
            names = self.input_args = _parameter_names(self.get_transform)
        missing = [name for name in names if not hasattr(aug_input, name)]
        if missing:
            raise AttributeError(f"{self} needs {missing[0]}, which the input does not have")
        transform = self.get_transform(*(getattr(aug_input, name) for name in names))
        if not isinstance(transform, Transform | TransformList):
            raise AssertionError(f"get_transform of {self} returned {transform!r}, no transform")
        aug_input.transform(transform)
        return transform

    def _init(self, params: dict[str, Any] | None = None) -> None:
        """Set the local variables of a constructor as attributes."""
        for name, value in (params or {}).items():
            if name != "self" and not name.startswith("_"):
                setattr(self, name, value)

    def _rand_range(self, low: float = 1.0, high: float | None = None, size: Any = None) -> Any:
        """Sample uniformly from ``low`` to ``high``, or from 0 to ``low``."""
        return np.random.uniform(*((0, low) if high is None else (low, high)), size)

    def __repr__(self) -> str:
        """Show the constructor's arguments that are attributes and differ from the defaults."""
        shown = []
        for name, parameter in inspect.signature(self.__init__).parameters.items():
            if parameter.kind in _VARIADIC or not hasattr(self, name):
                return super().__repr__()
            value = getattr(self, name)
            if value is not parameter.default:
                text = pprint.pformat(value)
                shown.append(f"{name}={'...' if chr(10) in text else text}")
        return f"{type(self).__name__}({', '.join(shown)})"

    __str__ = __repr__


_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def _parameter_names(get_transform: Any) -> tuple[str, ...]:
    parameters = inspect.signature(get_transform).parameters.values()
    if len(parameters) == 1:
        return ("image",)
    if any(parameter.kind in _VARIADIC for parameter in parameters):
        raise TypeError(f"{get_transform.__qualname__} must name its parameters")
    return tuple(parameter.name for parameter in parameters)


class _FixedTransform(Augmentation):
    """An augmentation that always returns the same transform."""

    def __init__(self, transform: Transform) -> None:
        self.tfm = transform

    def get_transform(self, *args: Any) -> Transform:
        return self.tfm

    def __repr__(self) -> str:
        return repr(self.tfm)

    __str__ = __repr__


def as_augmentation(item: Augmentation | Transform) -> Augmentation:
    """Turn a transform into the augmentation that always returns it."""
    if isinstance(item, Augmentation):
        return item
    if isinstance(item, Transform):
        return _FixedTransform(item)
    raise AssertionError(f"{item!r} is neither an augmentation nor a transform")


class AugmentationList(Augmentation):
    """A sequence of augmentations; the input of each is the output of the previous one."""

    def __init__(self, augs: Sequence[Augmentation | Transform]) -> None:
        self.augs = [as_augmentation(item) for item in augs]

    def __call__(self, aug_input: "AugInput") -> TransformList:
        return TransformList([augmentation(aug_input) for augmentation in self.augs])

    def __repr__(self) -> str:
        return f"AugmentationList[{', '.join(map(str, self.augs))}]"

    __str__ = __repr__


class AugInput:
    """An image with its labels and boxes, which are augmented together, in place.

    Args:
        image: (H, W) or (H, W, C), uint8 in 0..255 or float.
        boxes: (N, 4) as x0, y0, x1, y1.
        sem_seg: (H, W) labels.
    """

    def __init__(
        self,
        image: np.ndarray,
        *,
        boxes: np.ndarray | None = None,
        sem_seg: np.ndarray | None = None,
    ) -> None:
        if not isinstance(image, np.ndarray) or image.ndim not in (2, 3):
            raise AssertionError("an image must be a numpy array of 2 or 3 dimensions")
        self.image, self.boxes, self.sem_seg = image, boxes, sem_seg

    def transform(self, tfm: Transform) -> None:
        """Apply one transform to everything."""
        for name, apply in (
            ("image", tfm.apply_image),
            ("boxes", tfm.apply_box),
            ("sem_seg", tfm.apply_segmentation),
        ):
            if (value := getattr(self, name)) is not None:
                setattr(self, name, apply(value))

    def apply_augmentations(
        self, augmentations: Sequence[Augmentation | Transform]
    ) -> TransformList:
        """Apply augmentations in turn; returns the transforms that they sampled."""
        return AugmentationList(augmentations)(self)


def apply_augmentations(
    augmentations: Sequence[Augmentation | Transform], inputs: np.ndarray | AugInput
) -> tuple[np.ndarray | AugInput, TransformList]:
    """Augment an image or an :class:`AugInput`; returns it and the transforms used."""
    if isinstance(inputs, np.ndarray):
        wrapped = AugInput(inputs)
        transforms = wrapped.apply_augmentations(augmentations)
        return wrapped.image, transforms
    return inputs, inputs.apply_augmentations(augmentations)


# Names of older releases.
TransformGen = Augmentation
StandardAugInput = AugInput
apply_transform_gens = apply_augmentations
