"""Several evaluators, each of those predictions that are meant for it."""

from collections import OrderedDict
from collections.abc import Sequence

from detectron2.utils import comm

from segcore.errors import UserError
from segcore.evaluation.stateful import StatefulEvaluator


class EvaluatorsByOutput(StatefulEvaluator):
    """A model may return labels, segments, instances and the classes of the image, or with
    some of these: what it returns is evaluated.

    Attributes:
        labels_suffice: see :class:`segcore.evaluation.SemanticEvaluator`.
    """

    labels_suffice = True

    def __init__(self, dataset_name: str, evaluators: dict[str, StatefulEvaluator]) -> None:
        """
        Args:
            dataset_name: for messages.
            evaluators: the start of the names of a model's outputs, such as ``"sem_seg"``, to the
                evaluator of these.
        """
        self.dataset_name = dataset_name
        self.evaluators = evaluators
        self.reset()

    def reset(self) -> None:
        self._used: set[str] = set()
        for evaluator in self.evaluators.values():
            evaluator.reset()

    def process(self, inputs: Sequence[dict], outputs: Sequence[dict]) -> None:
        """Give each evaluator the part of a batch that has its outputs."""
        for name, evaluator in self.evaluators.items():
            pairs = [
                (item, output)
                for item, output in zip(inputs, outputs, strict=True)
                if any(key.startswith(name) for key in output)
            ]
            if pairs:
                evaluator.process(*zip(*pairs, strict=True))
                self._used.add(name)

    def evaluate(self) -> OrderedDict | None:
        """The results of all evaluators that saw something; None in all but the main process.

        Raises:
            UserError: none of them did.
        """
        used = set().union(*comm.all_gather(self._used))  # all processes ask the same evaluators
        if not used:
            raise UserError(
                f"nothing of dataset {self.dataset_name!r} was evaluated: it is about "
                f"{', '.join(self.evaluators)}, but the model predicted with none of these"
            )
        results = OrderedDict()
        for name, evaluator in self.evaluators.items():
            if name in used:
                results.update(evaluator.evaluate() or {})
        return results if comm.is_main_process() else None

    def state(self) -> dict:
        states = {name: self.evaluators[name].state() for name in sorted(self._used)}
        return {"states": states}

    def load_state(self, state: dict) -> None:
        for name, each in state["states"].items():
            self.evaluators[name].load_state(each)
            self._used.add(name)
