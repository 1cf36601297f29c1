"""Evaluation: from estimators and a data set to a results file."""

from grumo_jax.evaluation.batches import RunOptions as RunOptions
from grumo_jax.evaluation.evaluate import evaluate as evaluate
from grumo_jax.evaluation.protocol import PROTOCOLS as PROTOCOLS
from grumo_jax.evaluation.protocol import Protocol as Protocol
from grumo_jax.evaluation.protocol import named_protocol as named_protocol
from grumo_jax.evaluation.results import Results as Results
from grumo_jax.evaluation.results import read_results as read_results
