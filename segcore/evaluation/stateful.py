"""What evaluators have in common whose findings can be saved, and added to those of others."""

from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm


class StatefulEvaluator(DatasetEvaluator):
    """An evaluator that can be interrupted after any batch.

    Attributes:
        distributed: whether :meth:`evaluate` looks at the findings of all processes.
        tasks: those of "semantic", "panoptic" and "instance" that it looks at, so that a model may
            leave out the others; None: any.
    """

    distributed = True
    tasks: frozenset[str] | None = None

    def state(self) -> dict:
        """All that was found since ``reset``: tensors on the CPU, numbers, texts, and dicts and
        lists of these, so that it can be saved and loaded without executing anything."""
        raise NotImplementedError

    def load_state(self, state: dict) -> None:
        """Go on from what :meth:`state` returned, in this process or another.

        Raises:
            UserError: a file is gone that belongs to it.
        """
        raise NotImplementedError

    def everyones_states(self) -> list[dict]:
        """The states of all processes in their order; none in all but the main process."""
        states = comm.gather(self.state()) if self.distributed else [self.state()]
        return states if comm.is_main_process() or not self.distributed else []
