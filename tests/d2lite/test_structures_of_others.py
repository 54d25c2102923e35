"""Instances, batches of images and box formats, as other projects use them."""

import numpy as np
import pytest
import torch
from detectron2.structures import BoxMode, ImageList, Instances


class TestInstances:
    def test_private_names_are_attributes(self):
        objects = Instances((4, 5), a=torch.ones(2))
        objects._note = "anything"
        assert objects._note == "anything"
        assert list(objects.get_fields()) == ["a"]
        assert objects._image_size == objects.image_size == (4, 5)

    def test_fields_have_a_length(self):
        with pytest.raises(TypeError):
            Instances((4, 4), a=5)

    def test_one_is_joined_to_itself(self):
        """Whatever its fields are."""
        objects = Instances((4, 4), a=np.ones(2))
        assert Instances.cat([objects]) is objects
        with pytest.raises(ValueError):
            Instances.cat([objects, objects])

    def test_text(self):
        text = str(Instances((4, 5), a=torch.ones(2)))
        assert text.startswith(
            "Instances(num_instances=2, image_height=4, image_width=5, fields=[a:"
        )


class Padded(torch.nn.Module):
    def forward(self, x):
        return ImageList.from_tensors([x, x], 4).tensor


@pytest.mark.filterwarnings("ignore")
def test_traced_padding_follows_the_input():
    traced = torch.jit.trace(Padded(), torch.ones(1, 3, 5))
    for size in ((9, 9), (4, 8), (1, 13)):
        x = torch.rand(1, *size)
        assert torch.equal(traced(x), Padded()(x))


def test_padding():
    images = [torch.ones(2, 3, 5), torch.ones(2, 4, 1)]
    batch = ImageList.from_tensors(images, pad_value=-1.0)
    assert batch.tensor.shape == (2, 2, 4, 5)
    assert batch.image_sizes == [(3, 5), (4, 1)]
    assert [image.shape for image in batch] == [image.shape for image in images]
    assert (batch.tensor == -1).sum() == 2 * (5 + 16)
    square = {"square_size": 8, "size_divisibility": 5}
    assert ImageList.from_tensors(images, 2, padding_constraints=square).tensor.shape[-2:] == (
        10,
        10,
    )
    with pytest.raises(AssertionError):
        ImageList.from_tensors([])


class TestBoxMode:
    @pytest.mark.parametrize(
        "box, modes, expected",
        [
            ([1, 2, 3, 4], ("XYWH_ABS", "XYXY_ABS"), [1, 2, 4, 6]),
            ((1.0, 2.0, 4.0, 6.0), ("XYXY_ABS", "XYWH_ABS"), (1.0, 2.0, 3.0, 4.0)),
        ],
    )
    def test_convert(self, box, modes, expected):
        modes = [BoxMode[mode] for mode in modes]
        result = BoxMode.convert(box, *modes)
        assert type(result) is type(expected)
        assert result == pytest.approx(expected)
        for make in (np.array, torch.tensor):
            boxes = make([box])
            converted = BoxMode.convert(boxes, *modes)
            assert type(converted) is type(boxes) and converted.dtype == boxes.dtype
            assert converted[0].tolist() == pytest.approx(list(expected))
            assert boxes[0].tolist() == list(box)

    def test_numbers(self):
        """Files of datasets contain them."""
        assert [mode.value for mode in BoxMode] == [0, 1, 2, 3, 4]
        assert BoxMode.convert("anything", BoxMode.XYXY_REL, BoxMode.XYXY_REL) == "anything"

    def test_refused(self, raised):
        assert (
            raised(BoxMode.convert, [1] * 4, BoxMode.XYXY_REL, BoxMode.XYXY_ABS) == "AssertionError"
        )
        assert (
            raised(BoxMode.convert, [1] * 4, BoxMode.XYXY_ABS, BoxMode.XYWHA_ABS)
            == "NotImplementedError"
        )
        assert (
            raised(BoxMode.convert, [1] * 3, BoxMode.XYXY_ABS, BoxMode.XYWH_ABS) == "AssertionError"
        )
