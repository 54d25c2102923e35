"""Running a model over a data set, and the base class of evaluators."""

from detectron2.evaluation.evaluator import (
    DatasetEvaluator,
    DatasetEvaluators,
    inference_context,
    inference_on_dataset,
)
from detectron2.evaluation.testing import flatten_results_dict, print_csv_format, verify_results
