"""What Pillow is told of a TIFF file before it decodes its first image.

Bands beyond colour are left out: near infrared is often marked as opacity, and laying an image on
white by it would bleach it. The orientation is left to the caller, who turns every format alike.
libtiff reads all layouts, for Pillow misreads some of those that are not compressed.
"""

from PIL import ExifTags, Image, TiffImagePlugin
from PIL.TiffImagePlugin import TiffImageFile

from segcore.images.pixels import Samples

COLOURS = {2: 3, 5: 4, 6: 3, 8: 3}  # bands of RGB, CMYK, YCbCr and LAB; grey and palettes have one
MIN_IS_WHITE = 0
MAX_SAMPLE_VALUES = (281, 341)  # MaxSampleValue, SMaxSampleValue
LEAST_BITS = 9  # of samples that are stored in 16


def prepare(image: TiffImageFile) -> Samples:
    """Make a TIFF image that is not decoded yet decode to its colours in the order of the file.

    It has to have been opened with ``TiffImagePlugin.READ_LIBTIFF``, which has to be on still.
    """
    tags = image.tag_v2
    for table in (tags, image.getexif()):
        if ExifTags.Base.Orientation in table:
            del table[ExifTags.Base.Orientation]
    photometric = tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION, MIN_IS_WHITE)
    bands = tags.get(TiffImagePlugin.SAMPLESPERPIXEL, 1)
    left_out = max(0, bands - COLOURS.get(photometric, 1))
    if left_out:
        tags[TiffImagePlugin.EXTRASAMPLES] = (0,) * left_out  # of no stated meaning
    image._setup()
    stored_bits = tags.get(TiffImagePlugin.BITSPERSAMPLE, (1,))[0]
    return Samples(
        stored_bits,
        _significant_bits(image, stored_bits),
        zero_is_white=photometric == MIN_IS_WHITE,
        left_out=left_out,
    )


def reserve(image: TiffImageFile) -> None:
    """Allocate the pixels, for Pillow would compare their number with a limit of its own."""
    image.im = Image.core.new(image.mode, image.size)


def _significant_bits(image: TiffImageFile, stored_bits: int) -> int:
    for tag in MAX_SAMPLE_VALUES:
        most = image.tag_v2.get(tag)
        most = max(most) if isinstance(most, tuple) and most else most
        if stored_bits == 16 and isinstance(most, int) and LEAST_BITS <= most.bit_length() < 16:
            return most.bit_length()
    return stored_bits
