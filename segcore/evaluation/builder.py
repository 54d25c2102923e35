"""Build the evaluator of a data set by the ``evaluator_type`` in its metadata."""

from collections.abc import Sequence
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog

from segcore.config import TASK_SWITCHES, task_switches
from segcore.datasets import check_registered
from segcore.errors import UserError
from segcore.evaluation.by_output import EvaluatorsByOutput
from segcore.evaluation.category_scores import CategoryScoresWriter
from segcore.evaluation.instances import InstanceEvaluator
from segcore.evaluation.multilabel import TOP, MultilabelEvaluator
from segcore.evaluation.panoptic import PanopticEvaluator
from segcore.evaluation.retrieval import RetrievalEvaluator
from segcore.evaluation.semantic import SemanticEvaluator
from segcore.evaluation.stateful import StatefulEvaluator
from segcore.evaluation.video_instances import VideoInstanceEvaluator
from segcore.evaluation.video_semantic import VideoSemanticEvaluator
from segcore.runtime.files import join_inside

SEMANTIC = {"sem_seg": SemanticEvaluator}
PANOPTIC = {"panoptic_seg": PanopticEvaluator, "instances": InstanceEvaluator} | SEMANTIC
# Evaluators of each type of data sets, by the start of the names of a model's outputs.
EVALUATORS = {
    "sem_seg": SEMANTIC,
    "sem_seg_background": SEMANTIC,  # the metadata has the difference
    "cityscapes_sem_seg": SEMANTIC,  # mIoU over the training ids, without iIoU
    "ade20k_panoptic_seg": PANOPTIC,
    "coco_panoptic_seg": PANOPTIC,
    "mapillary_vistas_panoptic_seg": PANOPTIC,
    "coco": {"instances": InstanceEvaluator},
    "video_semantic": {"sem_seg": VideoSemanticEvaluator},
    "ytvis": {"pred_scores": VideoInstanceEvaluator},
    "retrieval": {"image_embedding": RetrievalEvaluator},
}
# Types with files for the server of their benchmark.
WITH_SUBMISSION = ("video_semantic", "ytvis")
# Metadata of the optional outputs of panoptic data sets.
NEEDED = {"instances": "json_file", "sem_seg": "sem_seg_root"}
# Outputs of a model of several tasks -> keys of ``TASK_SWITCHES``.
SWITCHES = {
    "sem_seg": "SEMANTIC_ON",
    "panoptic_seg": "PANOPTIC_ON",
    "instances": "INSTANCE_ON",
    "pred_scores": "INSTANCE_ON",
}


def build_evaluator(cfg: CfgNode, dataset_name: str) -> StatefulEvaluator:
    """Build the evaluator for a data set; its files go to ``OUTPUT_DIR/inference/<dataset_name>``.

    A data set of several tasks is evaluated in those that ``MODEL.MASK_FORMER.TEST`` switches on.
    With ``MODEL.RANKSEG.FLAG`` the multi-label classification of the images is evaluated too, and
    ``TEST.WRITE_SCORES`` writes its scores.

    Raises:
        UserError: the data set is unknown, there is no evaluator of its type, or the model has no
            output that it evaluates.
    """
    check_registered([dataset_name])
    metadata = MetadataCatalog.get(dataset_name)
    kind = metadata.get("evaluator_type")
    if kind not in EVALUATORS:
        raise UserError(
            f"dataset {dataset_name!r} has the evaluator type {kind!r}, which is unknown: use "
            f"{', '.join(EVALUATORS)}"
        )
    outputs = [
        output
        for output in EVALUATORS[kind]
        if len(EVALUATORS[kind]) == 1 or output not in NEEDED or metadata.get(NEEDED[output])
    ]
    outputs = _switched_on(cfg, dataset_name, outputs)
    output_dir = inference_folder(cfg, dataset_name)
    more = {"submission": cfg.TEST.SUBMISSION} if kind in WITH_SUBMISSION else {}
    evaluators = {
        output: EVALUATORS[kind][output](dataset_name, output_dir=output_dir, **more)
        for output in outputs
    }
    rankseg = cfg.MODEL.get("RANKSEG")
    if rankseg is not None and rankseg.FLAG and kind != "retrieval":
        top = (*TOP, rankseg.TOPK or TOP[0])  # 0 is no number of classes: of CAT-Seg, all
        evaluators["category_scores"] = MultilabelEvaluator(
            dataset_name, top=top, output_dir=output_dir
        )
    if cfg.TEST.WRITE_SCORES:
        evaluators["category_logits"] = CategoryScoresWriter(dataset_name, output_dir=output_dir)
    evaluator = next(iter(evaluators.values()))
    if len(evaluators) > 1:
        evaluator = EvaluatorsByOutput(dataset_name, evaluators)
    evaluator.tasks = evaluated_tasks(dataset_name)
    return evaluator


def inference_folder(cfg: CfgNode, dataset_name: str) -> Path:
    """Return the folder for the files of an evaluation.

    Raises:
        UserError: the name leads out of ``OUTPUT_DIR``.
    """
    folder = Path(cfg.OUTPUT_DIR) / "inference"
    return join_inside(folder, dataset_name, "the name of a data set")


def evaluated_tasks(dataset_name: str) -> frozenset[str]:
    """Return those of "semantic", "panoptic" and "instance" that a data set can evaluate."""
    outputs = EVALUATORS[MetadataCatalog.get(dataset_name).evaluator_type]
    switches = (SWITCHES[output] for output in outputs if output in SWITCHES)
    return frozenset(switch.removesuffix("_ON").lower() for switch in switches)


def _switched_on(cfg: CfgNode, dataset_name: str, outputs: Sequence[str]) -> list[str]:
    """Return those of a data set's outputs that the model returns."""
    tasks = task_switches(cfg)
    if tasks is None:
        return list(outputs)
    chosen = [each for each in outputs if each not in SWITCHES or tasks[SWITCHES[each]]]
    if not chosen:
        keys = " or ".join(f"{TASK_SWITCHES}.{SWITCHES[each]}" for each in outputs)
        raise UserError(
            f"dataset {dataset_name!r} evaluates {', '.join(outputs)}, which the model does not "
            f"return: set {keys} to True"
        )
    return chosen
