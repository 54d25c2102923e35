"""Prepare data sets of MESS from downloads that were unpacked by hand.

docs/howto/mess.md lists the download of each, and the folder below <root> (<root> is
$DETECTRON2_DATASETS or "datasets") to unpack it to. The results are beside the download, in
images_detectron2 and annotations_detectron2, like those of MESS's toolkit. Existing files are kept.
At the end all images and labels are checked. The names:

    atlantis, bdd100k, chase_db1, corrosion_cs, cryonuseg, cub_200, cwfid, dark_zurich, deepcrack,
    dram, floodnet, foodseg103, isaid, isprs_potsdam, kvasir_instrument, mhp_v1, paxray_lungs,
    paxray_mediastinum, paxray_bones, paxray_diaphragm, pst900, suim, uavid, worldfloods, zerowaste
"""

import sys
from pathlib import Path

from segcore.datasets import mess
from segcore.errors import UserError


def prepare(root: Path, *, names: list[str], workers: int) -> None:
    """Prepare the named data sets, or those whose folder is there; print a line for each.

    Raises:
        UserError: a name is unknown, there is no download, or a download has errors.
    """
    for name in names:
        if name not in mess.RECIPES:
            raise UserError(f"MESS has no set {name!r}: choose from {', '.join(mess.RECIPES)}")
    names = names or [name for name in mess.RECIPES if mess.download_folder(name, root).is_dir()]
    if not names:
        raise UserError(
            f"{root} holds no download of MESS: docs/howto/mess.md says what to put there"
        )
    for name in names:
        prepared = mess.prepare(name, root, workers=workers)
        maps = prepared.maps
        print(
            f"{maps.name}: {prepared.num_images} images, {len(prepared.classes)} of "
            f"{maps.num_values} classes occur",
            flush=True,
        )
        if prepared.num_images != maps.published:
            print(
                f"warning: {maps.name}: the benchmark has {maps.published} images: scores of "
                "another set of images are not comparable",
                file=sys.stderr,
            )
