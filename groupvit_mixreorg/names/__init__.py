"""Names of parameters in published checkpoints, one module a source."""
