"""The base of evaluators whose state can be saved, and gathered from all processes."""

from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm


class StatefulEvaluator(DatasetEvaluator):
    """An evaluator that can be interrupted after any batch.

    Attributes:
        distributed: whether :meth:`evaluate` gathers the states of all processes.
        tasks: those of "semantic", "panoptic" and "instance" that it evaluates, so that a model may
            skip the others; None: any.
        weights: a hash of the evaluated weights, for files; "" where nothing needs it.
        needed: whether a model has to return what it reads.
    """

    distributed = True
    tasks: frozenset[str] | None = None
    weights = ""
    needed = False

    def state(self) -> dict:
        """Return the state since ``reset``: tensors on the CPU, numbers, strings, and dicts and
        lists of these, so that loading it from a file executes nothing."""
        raise NotImplementedError

    def load_state(self, state: dict) -> None:
        """Continue from the result of :meth:`state`, of this process or another.

        Raises:
            UserError: a file that belongs to it is missing.
        """
        raise NotImplementedError

    def gather_states(self) -> list[dict]:
        """Return the states of all processes in their order; [] in all but the main process."""
        states = comm.gather(self.state()) if self.distributed else [self.state()]
        return states if comm.is_main_process() or not self.distributed else []
