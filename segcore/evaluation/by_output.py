"""Combine several evaluators, each of which gets the predictions with its outputs."""

from collections import OrderedDict
from collections.abc import Sequence

from detectron2.utils import comm

from segcore.errors import UserError
from segcore.evaluation.stateful import StatefulEvaluator


class EvaluatorsByOutput(StatefulEvaluator):
    """Evaluate all that a model returns: labels, segments, instances, classes of the image.

    Attributes:
        labels_suffice: see :class:`segcore.evaluation.SemanticEvaluator`.
    """

    labels_suffice = True

    def __init__(self, dataset_name: str, evaluators: dict[str, StatefulEvaluator]) -> None:
        """
        Args:
            dataset_name: for messages.
            evaluators: start of the names of a model's outputs, such as ``"sem_seg"`` -> evaluator.
        """
        self.dataset_name = dataset_name
        self.evaluators = evaluators
        self.reset()

    def reset(self) -> None:
        self._used: set[str] = set()
        for evaluator in self.evaluators.values():
            evaluator.reset()

    def process(self, inputs: Sequence[dict], outputs: Sequence[dict]) -> None:
        """Pass to each evaluator the part of a batch that has its outputs."""
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
        """Return the results of all used evaluators; None in all but the main process.

        Raises:
            UserError: none was used, or one that is needed was not.
        """
        used = set().union(*comm.all_gather(self._used))  # the same evaluators in all processes
        if not used:
            raise UserError(
                f"nothing of dataset {self.dataset_name!r} was evaluated: it needs "
                f"{', '.join(self.evaluators)}, but the model returned none of these"
            )
        for name, evaluator in self.evaluators.items():
            if getattr(evaluator, "needed", False) and name not in used:
                raise UserError(
                    f"the model returned no {name} for dataset {self.dataset_name!r}, which "
                    f"{type(evaluator).__name__} needs: switch it off, or take another model"
                )
            evaluator.weights = self.weights
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
