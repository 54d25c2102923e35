"""The scores of MESS: classes of interest of a data set, and means over all data sets.

Its mean IoU is ``mIoU_union`` of :func:`segcore.evaluation.confusion.semantic_scores`: a class that
is only predicted counts as 0. Blumenstiel et al., What a MESS, NeurIPS 2023.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor

from segcore.datasets.registering import vocabulary_reference
from segcore.errors import UserError
from segcore.vocabulary import Vocabulary, registered_names, vocabulary_table

DOMAINS = (
    "General",
    "Earth Monitoring",
    "Medical Sciences",
    "Engineering",
    "Agriculture and Biology",
)


def classes_of_interest(vocabulary: Vocabulary | None) -> tuple[int, ...] | None:
    """Return the ids of MESS's classes of interest; None for vocabularies without such."""
    if vocabulary is None or not isinstance(vocabulary_reference(vocabulary), str):
        return None
    ids = vocabulary_table(vocabulary.name).get("classes_of_interest")
    return None if ids is None else tuple(ids)


def interest_scores(matrix: Tensor, classes: Sequence[int]) -> dict[str, float]:
    """Return ``CoI-mIoU`` and ``CoI-mACC``, means over classes of interest; with two classes in all
    also ``Specificity`` and ``Sensitivity``, the accuracies of the first and of the second.

    Args:
        matrix: (K + 1, K + 1) counts, ``[prediction, ground truth]``, K = ignored.
        classes: ids.

    Returns:
        percent; nan without any pixel. The mean IoU is over the classes in the ground truth or a
        prediction, the mean accuracy over those in the ground truth.
    """
    matrix = matrix.double().cpu()
    hits = matrix.diagonal()[:-1]
    ground_truth, predicted = matrix[:-1, :-1].sum(0), matrix[:-1, :-1].sum(1)
    iou, accuracy = hits / (ground_truth + predicted - hits), hits / ground_truth  # 0 / 0 = nan
    ids = torch.tensor(classes)
    scores = {"CoI-mIoU": iou[ids].nanmean(), "CoI-mACC": accuracy[ids].nanmean()}
    if len(hits) == 2:
        scores |= {"Specificity": accuracy[0], "Sensitivity": accuracy[1]}
    return {key: 100 * value.item() for key, value in scores.items()}


@dataclass(frozen=True)
class MessScores:
    """The scores of many data sets, aggregated as MESS does.

    Attributes:
        datasets: the 22 scores by the benchmark's names; PAXRay-4 is the mean of its four parts.
        domains: means over their data sets.
        mean: over the data sets, not over the domains.
        missing: registered names of data sets without a score. Means are over the others: they are
            the benchmark's only if none is missing.
    """

    datasets: dict[str, float]
    domains: dict[str, float]
    mean: float
    missing: tuple[str, ...]


def aggregate(scores: Mapping[str, float]) -> MessScores:
    """Aggregate the scores of data sets.

    Args:
        scores: by registered name of the data set; names of other benchmarks are left out.

    Raises:
        UserError: there is no score of MESS.
    """
    domains, datasets, missing = {}, {}, []
    for domain, members in mess_datasets().items():
        for title, names in members.items():
            lacking = [name for name in names if name not in scores]
            missing += lacking
            if not lacking:
                datasets[title] = fmean(scores[name] for name in names)
        scored = [datasets[title] for title in members if title in datasets]
        if scored:
            domains[domain] = fmean(scored)
    if not datasets:
        raise UserError("none of the scores is of a whole data set of MESS: evaluate one")
    return MessScores(datasets, domains, fmean(datasets.values()), tuple(missing))


@functools.cache
def mess_datasets() -> dict[str, dict[str, tuple[str, ...]]]:
    """Return domain -> the benchmark's name of a data set -> registered names of its parts."""
    found: dict[str, dict[str, tuple[str, ...]]] = {domain: {} for domain in DOMAINS}
    for table in map(vocabulary_table, registered_names()):
        benchmark = table.get("benchmark", {})
        if benchmark.get("name") == "MESS":
            members = found[benchmark["domain"]]
            title = benchmark["dataset"]
            members[title] = (*members.get(title, ()), *table["datasets"])
    return found
