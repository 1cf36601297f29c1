"""Training of the base models (Godard et al., ICCV 2019; Poggi et al., CVPR 2020).

Needs the extra `train`: pip install 'grumo-jax[data,train]'.
"""

from grumo_jax.training.augment import Augmented as Augmented
from grumo_jax.training.augment import Jitter as Jitter
from grumo_jax.training.augment import augment as augment
from grumo_jax.training.batch import TrainingBatch as TrainingBatch
from grumo_jax.training.geometry import predict_motions as predict_motions
from grumo_jax.training.loop import TrainingDiverged as TrainingDiverged
from grumo_jax.training.loop import TrainingInterrupted as TrainingInterrupted
from grumo_jax.training.objectives import Objective as Objective
from grumo_jax.training.presets import PRESETS as PRESETS
from grumo_jax.training.presets import preset as preset
from grumo_jax.training.presets import with_base_model as with_base_model
from grumo_jax.training.settings import Settings as Settings
from grumo_jax.training.state import TrainingState as TrainingState
from grumo_jax.training.step import make_step as make_step
from grumo_jax.training.train import TrainingResult as TrainingResult
from grumo_jax.training.train import Weights as Weights
from grumo_jax.training.train import train as train
from grumo_jax.training.train import train_members as train_members
