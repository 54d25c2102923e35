"""Miniature downloads of the sets of MESS: the files that each has, of a few pixels.

``DOWNLOADS`` maps a name to a function that fills the set's folder and returns the labels that
must come out, by the stem of their file. Next to what is evaluated lies what must not be.
"""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from segcore.datasets.mess.recipes import ANNOTATOR, PAXRAY_PLANES

WIDE = 1030  # more than a tile
TILE = 1024
GREY = np.full((2, 3, 3), 100, np.uint8)
WIDE_GREY = np.full((2, WIDE, 3), 100, np.uint8)
Expected = dict[str, np.ndarray]


def save(path: Path, pixels: object, **options: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels, dtype=np.uint8)).save(path, **options)


def save_palette(path: Path, labels: object) -> None:
    """Indices of a palette that begins with white."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.asarray(labels, dtype=np.uint8)).convert("P")
    image.putpalette([255, 255, 255, 9, 9, 9] * 128)
    image.putdata(np.asarray(labels).flatten().tolist())
    image.save(path)


def wide(*values: object) -> np.ndarray:
    """Two rows; the first value as far as the first tile goes, the others one a pixel, repeated."""
    columns = [values[0]] * TILE + list(values[1:])
    columns += [values[-1]] * (WIDE - len(columns))
    return np.array([columns, columns], dtype=np.uint8)


def two_tiles(stem: str, *values: int) -> Expected:
    """What :func:`wide` becomes."""
    expected = {f"{stem}_0": np.full((TILE, TILE), 255), f"{stem}_1": np.full((TILE, TILE), 255)}
    expected[f"{stem}_0"][:2] = values[0]
    rest = list(values[1:]) + [values[-1]] * (WIDE - TILE - len(values) + 1)
    expected[f"{stem}_1"][:2, : WIDE - TILE] = rest
    return expected


def atlantis(folder: Path) -> Expected:
    for kind in ("images/test/boat/a.jpg", "images/test/cliff/b.jpg", "images/train/boat/c.jpg"):
        save(folder / kind, GREY)
    save(folder / "masks/test/boat/a.png", [[0, 1, 56], [2, 3, 200]])
    save(folder / "masks/test/cliff/b.png", [[4, 4, 4]] * 2)
    return {"a": [[255, 0, 55], [1, 2, 255]], "b": [[3, 3, 3]] * 2}


def bdd100k(folder: Path) -> Expected:
    save(folder / "images/10k/val/a.jpg", GREY)
    labels = [[0, 18, 255], [1, 2, 3]]
    save_palette(folder / "labels/sem_seg/colormaps/val/a.png", labels)
    return {"a": labels}


def chase_db1(folder: Path) -> Expected:
    for number in range(1, 6):  # the first eight of all are for training
        for side in "LR":
            save(folder / f"Image_{number:02}{side}.jpg", GREY)
            Image.fromarray(np.array([[True, False, False]] * 2)).save(
                folder / f"Image_{number:02}{side}_1stHO.png"
            )
            save(folder / f"Image_{number:02}{side}_2ndHO.png", [[0, 0, 0]] * 2)
    return {"Image_05L": [[1, 0, 0]] * 2, "Image_05R": [[1, 0, 0]] * 2}


def corrosion_cs(folder: Path) -> Expected:
    save(folder / "original/Test/images/a.jpeg", GREY)
    labels = [[0, 1, 2], [3, 0, 0]]
    save_palette(folder / "original/Test/masks/a.png", labels)
    return {"a": labels}


def cryonuseg(folder: Path) -> Expected:
    save(folder / "tissue images/a.tif", GREY)
    masks = folder / ANNOTATOR / ANNOTATOR / "mask binary"
    save(masks / "a.png", [[255, 0, 100], [0, 0, 254]])
    return {"a": [[1, 0, 0], [0, 0, 0]]}


def cub_200(folder: Path) -> Expected:
    names = ["001.Albatross/a.jpg", "200.Yellowthroat/b.jpg"]
    for name in names:
        save(folder / "images" / name, GREY)
        save(folder / "segmentations" / name.replace(".jpg", ".png"), [[255, 129, 128]] * 2)
    (folder / "images.txt").write_text("".join(f"{i} {n}\n" for i, n in enumerate(names, 1)))
    (folder / "train_test_split.txt").write_text("1 1\n2 0\n")
    return {"b": [[200, 200, 0]] * 2}


def cwfid(folder: Path) -> Expected:
    for number in (1, 2):  # the second is for training
        save(folder / f"images/{number:03}_image.png", GREY)
        colours = [[(0, 0, 0), (255, 0, 0), (0, 255, 0)], [(0, 0, 0), (1, 1, 1), (0, 0, 0)]]
        save(folder / f"annotations/{number:03}_annotation.png", colours)
    return {"001_": [[0, 1, 2], [0, 255, 0]]}


def dark_zurich(folder: Path) -> Expected:
    drive = "val/night/GOPR0356/GOPR0356_frame_000321"
    save(folder / f"rgb_anon/{drive}_rgb_anon.png", GREY)
    save(folder / f"gt/{drive}_gt_labelIds.png", [[0, 7, 33], [7, 7, 255]])
    save(folder / f"gt/{drive}_gt_invGray.png", [[0, 0, 0], [255, 0, 0]])
    save(folder / f"gt/{drive}_gt_labelTrainIds.png", [[9, 9, 9]] * 2)
    return {"GOPR0356_frame_000321": [[0, 1, 19], [255, 1, 255]]}


def deepcrack(folder: Path) -> Expected:
    save(folder / "test_img/11125-1.jpg", GREY)
    save(folder / "test_lab/11125-1.png", [[255, 0, 255]] * 2)
    save(folder / "train_img/2.jpg", GREY)
    return {"11125-1": [[1, 0, 1]] * 2}


def dram(folder: Path) -> Expected:
    for name in ("realism/courbet/1", "unseen/ukiyo-e/1"):
        save(folder / f"test/{name}.jpg", GREY)
        save(folder / f"labels/{name}.png", [[0, 3, 17], [20, 255, 15]])
    expected = [[11, 0, 10], [11, 255, 8]]
    return {"courbet_1": expected, "ukiyo-e_1": expected}


def floodnet(folder: Path) -> Expected:
    save(folder / "test/test-org-img/6300.jpg", WIDE_GREY)
    save(folder / "test/test-label-img/6300_lab.png", wide(9, 0, 1))
    return two_tiles("6300", 9, 0, 1)


def foodseg103(folder: Path) -> Expected:
    save(folder / "Images/img_dir/test/00000048.jpg", GREY)
    labels = [[0, 1, 103]] * 2
    save(folder / "Images/ann_dir/test/00000048.png", labels)
    return {"00000048": labels}


def isaid(folder: Path) -> Expected:
    save(folder / "val/images/P0003.png", WIDE_GREY)
    save(folder / "val/images/P0004.png", WIDE_GREY)
    colours = wide((0, 0, 63), (0, 0, 0), (0, 100, 155))
    save(folder / "raw_val/images/P0003_instance_color_RGB.png", colours)
    return two_tiles("P0003", 1, 0, 15)


def isprs_potsdam(folder: Path) -> Expected:
    for name in ("2_13", "2_10"):  # the second is for training
        save(folder / f"3_Ortho_IRRG/top_potsdam_{name}_IRRG.tif", WIDE_GREY)
        save(folder / f"2_Ortho_RGB/top_potsdam_{name}_RGB.tif", WIDE_GREY)
        soft = wide((255, 255, 129), (128, 0, 129), (255, 255, 0), (255, 0, 0))
        save(folder / f"Labels/top_potsdam_{name}_label.tif", soft)
    return two_tiles("top_potsdam_2_13", 0, 1, 4, 5)


def kvasir_instrument(folder: Path) -> Expected:
    save(folder / "images/a.jpg", GREY)
    save(folder / "images/b.jpg", GREY)
    save(folder / "masks/a.png", [[(255, 255, 255), (254, 0, 0), (0, 0, 0)]] * 2)
    (folder / "test.txt").write_text("a\n")
    return {"a": [[1, 0, 0]] * 2}


def mhp_v1(folder: Path) -> Expected:
    for name in ("1", "10"):
        save(folder / f"images/{name}.jpg", GREY)
    save(folder / "annotations/1_02_01.png", [[0, 3, 0]] * 2)
    save(folder / "annotations/1_02_02.png", [[18, 1, 0]] * 2)
    save(folder / "annotations/10_01_01.png", [[5, 5, 5]] * 2)
    (folder / "test_list.txt").write_text("1.jpg\n")
    (folder / "train_list.txt").write_text("10.jpg\n")
    return {"1": [[18, 3, 0]] * 2}


def paxray(part: str) -> Callable[[Path], Expected]:
    def make(folder: Path) -> Expected:
        save(folder / "images/a.png", GREY)
        stack = np.zeros((166, 2, 3), dtype=bool)
        for column, index in enumerate(PAXRAY_PLANES.values()):
            stack[index, 0, : column + 1] = stack[index, 1, column % 3] = True
        (folder / "labels").mkdir()
        np.save(folder / "labels/a.npy", stack)
        entries = [{"image": "images/a.png", "target": "labels/a.npy"}]
        (folder / "paxray.json").write_text(json.dumps({"test": entries, "train": []}))
        return {"a": stack[PAXRAY_PLANES[part]]}

    return make


def pst900(folder: Path) -> Expected:
    save(folder / "test/thermal/a.png", [[1, 2, 3]] * 2)
    save(folder / "test/labels/a.png", [[0, 1, 4]] * 2)
    return {"a": [[0, 1, 4]] * 2}


def suim(folder: Path) -> Expected:
    save(folder / "TEST/images/d_r_1_.jpg", GREY)
    colours = [[(0, 0, 0), (0, 255, 255), (255, 255, 255)]] * 2
    save(folder / "TEST/masks/d_r_1_.bmp", colours)
    return {"d_r_1_": [[0, 3, 7]] * 2}


def uavid(folder: Path) -> Expected:
    save(folder / "uavid_val/seq16/Images/000000.png", WIDE_GREY)
    colours = wide((64, 0, 128), (0, 0, 0), (64, 64, 0), (192, 0, 192))
    save(folder / "uavid_val/seq16/Labels/000000.png", colours)
    return two_tiles("seq16_000000", 5, 0, 7, 6)


def worldfloods(folder: Path) -> Expected:
    import tifffile

    (folder / "test/S2").mkdir(parents=True)
    bands = np.zeros((2, WIDE, 13), dtype=np.uint16)
    bands[..., 7], bands[..., 3], bands[..., 1] = 60000, 3115, 0
    tifffile.imwrite(
        folder / "test/S2/EMSR_1.tif", bands, photometric="minisblack", planarconfig="contig"
    )
    save(folder / "test/gt/EMSR_1.tif", wide(1, 0, 2, 3))
    return two_tiles("EMSR_1", 0, 255, 1, 2)


def zerowaste(folder: Path) -> Expected:
    save(folder / "splits_final_deblurred/test/data/a.PNG", GREY)
    save(folder / "splits_final_deblurred/test/sem_seg/a.PNG", [[0, 1, 4]] * 2)
    return {"a": [[0, 1, 4]] * 2}


DOWNLOADS: dict[str, Callable[[Path], Expected]] = {
    make.__name__: make
    for make in (
        *(atlantis, bdd100k, chase_db1, corrosion_cs, cryonuseg, cub_200, cwfid, dark_zurich),
        *(deepcrack, dram, floodnet, foodseg103, isaid, isprs_potsdam, kvasir_instrument, mhp_v1),
        *(pst900, suim, uavid, worldfloods, zerowaste),
    )
} | {f"paxray_{part}": paxray(part) for part in PAXRAY_PLANES}
