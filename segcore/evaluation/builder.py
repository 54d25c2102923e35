"""The evaluator of a data set, by the ``evaluator_type`` in its metadata."""

from pathlib import Path

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator

from segcore.datasets import check_registered
from segcore.errors import UserError
from segcore.evaluation.retrieval import RetrievalEvaluator
from segcore.evaluation.semantic import SemanticEvaluator

EVALUATORS = {
    "sem_seg": SemanticEvaluator,
    "sem_seg_background": SemanticEvaluator,  # what differs stands in the metadata
    "cityscapes_sem_seg": SemanticEvaluator,  # mIoU over the training ids, without iIoU
    "retrieval": RetrievalEvaluator,
}


def build_evaluator(cfg: CfgNode, dataset_name: str) -> DatasetEvaluator:
    """The evaluator for a data set; its files go to ``OUTPUT_DIR/inference/<dataset_name>``.

    Raises:
        UserError: the data set is unknown, or there is no evaluator of its type.
    """
    check_registered([dataset_name])
    kind = MetadataCatalog.get(dataset_name).get("evaluator_type")
    if kind not in EVALUATORS:
        raise UserError(
            f"dataset {dataset_name!r} wants the evaluator {kind!r}; there are "
            f"{', '.join(EVALUATORS)}"
        )
    return EVALUATORS[kind](
        dataset_name, output_dir=Path(cfg.OUTPUT_DIR) / "inference" / dataset_name
    )
