"""Estimators: `estimator(variables, images, key=None)` returns depth and uncertainty."""

from grumo_jax.estimators.base import Estimate as Estimate
from grumo_jax.estimators.base import Estimator as Estimator
from grumo_jax.estimators.base import Inputs as Inputs
from grumo_jax.estimators.base import estimate_together as estimate_together
from grumo_jax.estimators.baselines import ConstantBaseline as ConstantBaseline
from grumo_jax.estimators.baselines import DepthBaseline as DepthBaseline
from grumo_jax.estimators.baselines import RowBaseline as RowBaseline
from grumo_jax.estimators.dropout import DropoutEnsemble as DropoutEnsemble
from grumo_jax.estimators.dropout import InferenceDropout as InferenceDropout
from grumo_jax.estimators.ensemble import Ensemble as Ensemble
from grumo_jax.estimators.ensemble import stack_variables as stack_variables
from grumo_jax.estimators.gradient import GradientEstimate as GradientEstimate
from grumo_jax.estimators.gradient import GradientUncertainty as GradientUncertainty
from grumo_jax.estimators.learned import LearnedUncertainty as LearnedUncertainty
from grumo_jax.estimators.named import BASELINES as BASELINES
from grumo_jax.estimators.named import NAMED as NAMED
from grumo_jax.estimators.named import named_estimator as named_estimator
from grumo_jax.estimators.postprocessing import PostProcessing as PostProcessing
from grumo_jax.estimators.variance import TestTimeVariance as TestTimeVariance
