"""Hashes of a model and of a vocabulary, equal on all machines."""

import hashlib
import json

from catrank.model import Model
from segcore.evaluation.resuming import config_hash, weights_hash
from segcore.vocabulary import Vocabulary


def model_hash(model: Model) -> str:
    """Return a hash of the weights, and of the config's keys but the device."""
    cfg = model.cfg.clone()
    cfg.defrost()
    cfg.MODEL.DEVICE = "cpu"
    text = json.dumps([config_hash(cfg), weights_hash(model.network)])
    return hashlib.sha256(text.encode()).hexdigest()


def vocabulary_hash(vocabulary: Vocabulary) -> str:
    """Return a hash of the classes with all that is known of them."""
    text = json.dumps(vocabulary.to_table(), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
