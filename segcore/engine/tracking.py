"""Write the numbers and images of a training to a tracker of :mod:`.trackers`."""

import json
import logging
from collections import defaultdict
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.utils.events import EventStorage, EventWriter, get_event_storage

from segcore.errors import UserError, printable
from segcore.runtime.files import writing

from .trackers import TRACKERS, Tracker, plain

logger = logging.getLogger(__name__)

RUN_FILE = "tracker.json"  # in OUTPUT_DIR: the run that a resumed training continues
WINDOW = 20  # iterations, of which losses are the median, as in metrics.json


class TrackerWriter(EventWriter):
    """Writes what TensorBoard gets, but histograms, to a tracker.

    A tracker that fails later than at its start never ends a training: each failure is a warning
    in the log, and ``metrics.json`` has the numbers.
    """

    def __init__(self, cfg: CfgNode) -> None:
        """Import the tracker of ``TRACKER.NAME``, which has passed ``check_tracker``."""
        self.cfg = cfg
        self._tracker: Tracker = TRACKERS[cfg.TRACKER.NAME](import_module(cfg.TRACKER.NAME))
        self._last_write = -1

    def begin(self, resumed: bool) -> None:
        """Start the run; a resumed training continues the run that ``OUTPUT_DIR`` names.

        Raises:
            UserError: the tracker does not start, for example without a login.
        """
        tracker, path = self.cfg.TRACKER, Path(self.cfg.OUTPUT_DIR, RUN_FILE)
        before = _read_run(path) if resumed and path.is_file() else {}
        run_id = before["id"] if before.get("tracker") == tracker.NAME else ""
        name = tracker.RUN or Path(self.cfg.OUTPUT_DIR).resolve().name
        try:
            run_id = self._tracker.start(
                tracker.PROJECT, name, self.cfg.OUTPUT_DIR, plain(self.cfg), run_id
            )
        except Exception as error:
            raise UserError(
                f"TRACKER.NAME is {tracker.NAME}, whose run does not start: {printable(error)}"
            ) from error
        with writing(path) as file:
            file.write(json.dumps({"tracker": tracker.NAME, "id": run_id}).encode())

    def write(self) -> None:
        storage = get_event_storage()
        try:
            for iteration, numbers in self._new_numbers(storage).items():
                self._tracker.log(numbers, iteration)
            for name, image, iteration in storage._vis_data:
                self._tracker.log_image(name, as_pixels(image), iteration)
        except Exception as error:
            self._warn(error)

    def close(self) -> None:
        try:
            self._tracker.close()
        except Exception as error:
            self._warn(error)

    def _new_numbers(self, storage: EventStorage) -> dict[int, dict[str, float]]:
        """Return the scalars since the last write: iteration -> name -> value."""
        found: dict[int, dict[str, float]] = defaultdict(dict)
        for name, (value, iteration) in storage.latest_with_smoothing_hint(WINDOW).items():
            if iteration > self._last_write:
                found[iteration][name] = value
        self._last_write = max([self._last_write, *found])
        return dict(sorted(found.items()))

    def _warn(self, error: Exception) -> None:
        name = self.cfg.TRACKER.NAME
        logger.warning("The tracker %s failed, training continues: %s", name, printable(error))


class ImageDropper(EventWriter):
    """Drops images that all writers before it have seen; without TensorBoard no other does."""

    def write(self) -> None:
        get_event_storage().clear_images()


def as_pixels(image: Any) -> np.ndarray:
    """Return an image of the event storage as (H, W, 3) uint8.

    Args:
        image: (3, H, W), tensor or array, uint8 or float in 0..1.
    """
    pixels = torch.tensor(image) if isinstance(image, np.ndarray) else image.cpu()
    if pixels.is_floating_point():
        pixels = (pixels.clamp(0, 1) * 255).round().to(torch.uint8)
    return np.ascontiguousarray(pixels.permute(1, 2, 0).numpy())


def _read_run(path: Path) -> dict[str, str]:
    try:
        run = json.loads(path.read_text("utf-8"))
        return {"tracker": str(run["tracker"]), "id": str(run["id"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} names no run of a tracker: remove the file to start a new one"
        ) from error
