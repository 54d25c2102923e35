"""GeoJSON: the outlines as polygons with holes, in pixels, x to the right and y downwards.

Read by QuPath, shapely, QGIS and others. RFC 7946 means degrees of longitude and latitude; tools
for images read pixels.
"""

from collections.abc import Iterable
from typing import Any

from catrank.exports.annotations import Annotation
from catrank.exports.polygons import Ring, mask_polygons


def geojson_features(annotations: Iterable[Annotation]) -> dict[str, Any]:
    """Return a collection of a feature for each annotation, with exactly its pixels."""
    features = []
    for annotation in annotations:
        polygons = [
            [_closed(ring) for ring in (polygon.exterior, *polygon.holes)]
            for polygon in mask_polygons(annotation.mask)
        ]
        single = len(polygons) == 1
        properties: dict[str, Any] = {
            "name": annotation.name,
            "class_id": annotation.class_id,
            "is_object": annotation.is_object,
        }
        if annotation.score is not None:
            properties["score"] = round(annotation.score, 6)
        features.append(
            {
                "type": "Feature",
                "id": annotation.number,
                "geometry": {
                    "type": "Polygon" if single else "MultiPolygon",
                    "coordinates": polygons[0] if single else polygons,
                },
                "properties": properties,
            }
        )
    return {"type": "FeatureCollection", "features": features}


def _closed(ring: Ring) -> list[list[int]]:
    return [[x, y] for x, y in (*ring, ring[0])]
