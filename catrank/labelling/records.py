"""The rows of labels: their Parquet schema, and a row of a result."""

from typing import Any

import numpy as np
import pyarrow as pa
from pycocotools import mask as library

from catrank.results import Result

SEGMENT = pa.struct(
    [
        ("id", pa.int32()),  # of the segment in the image, from 1
        ("class_id", pa.int32()),
        ("is_thing", pa.bool_()),  # an object, and not all of its class in the image
        ("score", pa.float32()),  # null of a model that gives none
        ("area", pa.int64()),  # pixels
        ("bbox", pa.list_(pa.int32())),  # x, y, width, height
        ("rle", pa.string()),  # counts of COCO's compressed RLE; its size is [height, width]
    ]
)
SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("class_ids", pa.list_(pa.int32())),  # present in the image, ascending
        ("class_names", pa.list_(pa.string())),
        ("segments", pa.list_(SEGMENT)),
        ("kept_class_ids", pa.list_(pa.int32())),  # of a model with RankSeg, most probable first
        ("kept_class_scores", pa.list_(pa.float32())),
        ("label_png", pa.string()),  # path below the output folder
        ("model", pa.string()),  # hash
        ("vocabulary", pa.string()),  # hash
        ("error", pa.string()),  # why there are no labels; null where there are
    ]
)


def result_row(result: Result) -> dict[str, Any]:
    """Return the row of a result, without key, hashes and PNG."""
    height, width = result.size
    segments = [*_segments(result)]
    class_ids = sorted({segment["class_id"] for segment in segments})
    row = {
        "width": width,
        "height": height,
        "class_ids": class_ids,
        "class_names": [result.class_names[class_id] for class_id in class_ids],
        "segments": segments,
    }
    if result.category_ids is not None and result.category_scores is not None:
        row["kept_class_ids"] = result.category_ids.tolist()
        row["kept_class_scores"] = result.category_scores[result.category_ids].tolist()
    return row


def _segments(result: Result) -> list[dict[str, Any]]:
    # Transposed once: COCO's RLE runs down the columns.
    columns = np.ascontiguousarray(result.segment_ids.T)
    rows = []
    for index, segment in enumerate(result.segments):
        if result.object_masks is None:
            mask = (columns == segment.number).view(np.uint8).T
        else:
            mask = np.asfortranarray(result.mask(index), dtype=np.uint8)
        rle = library.encode(mask)
        rows.append(
            {
                "id": segment.number,
                "class_id": segment.class_id,
                "is_thing": segment.is_object,
                "score": segment.score,
                "area": int(library.area(rle)),
                "bbox": library.toBbox(rle).astype(int).tolist(),
                "rle": rle["counts"].decode("ascii"),
            }
        )
    return rows
