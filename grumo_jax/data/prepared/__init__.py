"""Prepared data: splits packed into a few large files, as TFDS data sets without TensorFlow."""

from grumo_jax.data.prepared.parts import PARTS as PARTS
from grumo_jax.data.prepared.parts import open_raw as open_raw
from grumo_jax.data.prepared.read import PreparedSource as PreparedSource
from grumo_jax.data.prepared.read import find_prepared as find_prepared
from grumo_jax.data.prepared.read import open_prepared as open_prepared
from grumo_jax.data.prepared.read import say_prepared_level as say_prepared_level
from grumo_jax.data.prepared.write import Outcome as Outcome
from grumo_jax.data.prepared.write import prepare as prepare
