"""How an export is imported."""

from dataclasses import dataclass
from pathlib import Path

from segcore.errors import UserError, printable


@dataclass(frozen=True)
class Plan:
    """How an export is imported.

    Attributes:
        output: the new folder.
        name: of the data sets.
        classes: the names to keep, in the order of their ids; None keeps all in their order.
        ignore: names of classes whose pixels get the ignore label.
        background: pixels without a shape are a class; otherwise they get the ignore label.
        fraction: of the images that becomes validation, where the export has no split.
        seed: of that split.
        link: make symbolic links to images instead of copies.
        workers: processes.
    """

    output: Path
    name: str
    classes: tuple[str, ...] | None = None
    ignore: tuple[str, ...] = ()
    background: bool = True
    fraction: float = 0.2
    seed: int = 0
    link: bool = False
    workers: int = 1

    def check_output(self) -> None:
        """Raise UserError unless the output folder is missing or empty."""
        if self.output.exists() and (not self.output.is_dir() or any(self.output.iterdir())):
            raise UserError(f"--output {printable(self.output)} is not empty: give another folder")
