"""A folder of results in formats of choice, with the methods of ResultFolder."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from catrank.exports.files import make_folder
from catrank.exports.saving import FORMATS, save_result
from catrank.results import Result
from segcore.errors import UserError, printable


class ExportFolder:
    """Write each result in the formats of ``catrank.exports.saving``.

    Args:
        folder: made if absent.
        formats: names in ``FORMATS``.
        overwrite: whether files of an earlier run may be replaced.

    Raises:
        UserError: there is no such format.
    """

    def __init__(self, folder: Path, formats: Sequence[str], overwrite: bool = False) -> None:
        for name in formats:
            if name not in FORMATS:
                raise UserError(
                    f"--save {printable(name)}: there is no such format; there are "
                    f"{', '.join(FORMATS)}"
                )
        self.folder, self.formats, self.overwrite = Path(folder), tuple(formats), overwrite

    def path(self, name: str, kind: str) -> Path:
        """Where the result of an image goes in the format ``kind``."""
        return self.folder / f"{name}{FORMATS[kind][0]}"

    def prepare(self, names: Iterable[str]) -> None:
        """Make the folder, and check that nothing will be lost.

        Raises:
            UserError: a result is there already, or the folder cannot be made.
        """
        make_folder(self.folder)
        wanted = (self.path(name, kind) for name in names for kind in self.formats)
        present = next((path for path in wanted if os.path.lexists(path)), None)
        if present is not None and not self.overwrite:
            raise UserError(
                f"{printable(present)} is there already; give another --output, or --overwrite"
            )

    def hold(self, name: str) -> bool:
        """Whether the files of an image are there."""
        return all(self.path(name, kind).is_file() for kind in self.formats)

    def write(self, name: str, result: Result) -> None:
        """Write the results of one image.

        Raises:
            UserError: a file cannot be written.
        """
        save_result(result, self.folder, self.formats, name)
