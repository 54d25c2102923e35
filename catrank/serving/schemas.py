"""The JSON of the REST interface, from which its OpenAPI document is made."""

from pydantic import BaseModel, Field


class Failure(BaseModel):
    """Why a request failed."""

    error: str = Field(description="One line.")


class Health(BaseModel):
    """Whether the server works."""

    status: str = Field(description="ok")


class ModelInfo(BaseModel):
    """The model behind the service, and the limits of a request."""

    name: str
    architecture: str
    open_vocabulary: bool = Field(description="Whether a request may name its classes.")
    adjustable_keep: bool = Field(description="Whether a request may say how many are kept.")
    classes: list[str] = Field(description="Class names of requests that name none.")
    limits: dict[str, int]


class Rle(BaseModel):
    """COCO's compressed RLE, as pycocotools decodes it."""

    size: list[int] = Field(description="Height and width.", min_length=2, max_length=2)
    counts: str


class SegmentInfo(BaseModel):
    """A segment: all pixels of a class, or an object."""

    id: int
    class_id: int = Field(description="Index in the list of classes.")
    class_name: str
    is_object: bool
    score: float | None = Field(
        description="Larger is surer, mostly 0 to 1; null of a model that gives none."
    )
    area: int = Field(description="Pixels.")
    bbox: list[float] = Field(description="x, y, width, height.", min_length=4, max_length=4)
    segmentation: Rle


class ImageInfo(BaseModel):
    """The image of the request."""

    file_name: str
    height: int
    width: int


class Category(BaseModel):
    """A class, and the probability that it is in the image."""

    class_name: str
    score: float


class Segmentation(BaseModel):
    """The result for an image."""

    image: ImageInfo
    task: str = Field(description="semantic, panoptic or instance")
    classes: list[str]
    segments: list[SegmentInfo]
    categories: list[Category] = Field(
        description="The most probable class first; empty of a model that does not rank classes."
    )
    classes_kept: int | None = Field(description="How many classes could be predicted.")


class AnnotationFile(BaseModel, extra="allow"):
    """A file of the format COCO or LabelMe."""
