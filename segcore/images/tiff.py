"""Correct the tags of a TIFF file for Pillow before it decodes the first image.

Bands beyond colour are left out: near infrared is often marked as opacity, and compositing the
image on white with it would bleach the image. The orientation is left to the caller, which handles
all formats alike. libtiff reads all layouts, since Pillow misreads some uncompressed ones.
"""

from PIL import ExifTags, Image, TiffImagePlugin
from PIL.TiffImagePlugin import TiffImageFile

from segcore.images.pixels import Samples

COLOURS = {2: 3, 5: 4, 6: 3, 8: 3}  # bands of RGB, CMYK, YCbCr and LAB; grey and palettes have one
MIN_IS_WHITE = 0
MAX_SAMPLE_VALUES = (281, 341)  # MaxSampleValue, SMaxSampleValue
LEAST_BITS = 9  # of samples that are stored with 16


def prepare(image: TiffImageFile) -> Samples:
    """Make an undecoded TIFF image decode to its colours in the order of the file.

    ``TiffImagePlugin.READ_LIBTIFF`` must be on, as it was when the image was opened.
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
    """Allocate the pixels; otherwise Pillow compares their number with its limit."""
    image.im = Image.core.new(image.mode, image.size)


def _significant_bits(image: TiffImageFile, stored_bits: int) -> int:
    for tag in MAX_SAMPLE_VALUES:
        most = image.tag_v2.get(tag)
        most = max(most) if isinstance(most, tuple) and most else most
        if stored_bits == 16 and isinstance(most, int) and LEAST_BITS <= most.bit_length() < 16:
            return most.bit_length()
    return stored_bits
