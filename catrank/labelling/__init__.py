"""Mass labelling: images of any number into Parquet shards, on one machine or many.

``sources``  where images are, and how their bytes are read
``plan``  their order, cut into shards; what a rerun compares
``shards``  label a shard and commit it
``local``, ``ray_engine``  the engines, which assign shards to workers
``manifest``  what made the labels, and the hash of every shard
``records``, ``reading``  rows of labels, written and read
"""

from segcore.errors import UserError

try:
    import fsspec  # noqa: F401
    import pyarrow  # noqa: F401
except ImportError as error:
    raise UserError(f"labels need {error.name}: pip install 'catrank[scale]'") from error

from .reading import Labels, read_labels
from .run import label

__all__ = ["Labels", "label", "read_labels"]
