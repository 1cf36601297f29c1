"""Where is a depth network wrong? Gradient-based uncertainty for monocular depth, in JAX.

What the method needs is here; the rest is in namespaces that are loaded when they are asked for:
`grumo_jax.data`, `.evaluation`, `.ablation`, `.report`, `.plots`, `.training`, `.synthetic`.
"""

import importlib
from typing import Any

from grumo_jax.activations import activation_gradients as activation_gradients
from grumo_jax.activations import activation_shapes as activation_shapes
from grumo_jax.activations import activation_vjp as activation_vjp
from grumo_jax.activations import capture_activations as capture_activations
from grumo_jax.activations import choose_layers as choose_layers
from grumo_jax.activations import edit_activations as edit_activations
from grumo_jax.activations import name_layers as name_layers
from grumo_jax.errors import GrumoError as GrumoError
from grumo_jax.errors import GrumoWarning as GrumoWarning
from grumo_jax.estimators import ConstantBaseline as ConstantBaseline
from grumo_jax.estimators import DepthBaseline as DepthBaseline
from grumo_jax.estimators import DropoutEnsemble as DropoutEnsemble
from grumo_jax.estimators import Ensemble as Ensemble
from grumo_jax.estimators import Estimate as Estimate
from grumo_jax.estimators import Estimator as Estimator
from grumo_jax.estimators import GradientEstimate as GradientEstimate
from grumo_jax.estimators import GradientUncertainty as GradientUncertainty
from grumo_jax.estimators import InferenceDropout as InferenceDropout
from grumo_jax.estimators import Inputs as Inputs
from grumo_jax.estimators import LearnedUncertainty as LearnedUncertainty
from grumo_jax.estimators import PostProcessing as PostProcessing
from grumo_jax.estimators import RowBaseline as RowBaseline
from grumo_jax.estimators import TestTimeVariance as TestTimeVariance
from grumo_jax.estimators import estimate_together as estimate_together
from grumo_jax.estimators import named_estimator as named_estimator
from grumo_jax.estimators import stack_variables as stack_variables
from grumo_jax.export import Exported as Exported
from grumo_jax.export import export_estimator as export_estimator
from grumo_jax.export import load_exported as load_exported
from grumo_jax.images import read_image as read_image
from grumo_jax.metrics import DepthErrors as DepthErrors
from grumo_jax.metrics import Detection as Detection
from grumo_jax.metrics import Sparsification as Sparsification
from grumo_jax.metrics import depth_errors as depth_errors
from grumo_jax.metrics import error_detection as error_detection
from grumo_jax.metrics import errors_by_depth as errors_by_depth
from grumo_jax.metrics import sparsification as sparsification
from grumo_jax.metrics import spearman as spearman
from grumo_jax.networks import DepthOutput as DepthOutput
from grumo_jax.networks import Monodepth2 as Monodepth2
from grumo_jax.networks.checkpoint import load_checkpoint as load_checkpoint
from grumo_jax.networks.checkpoint import save_checkpoint as save_checkpoint
from grumo_jax.networks.layouts import FeatureMap as FeatureMap
from grumo_jax.networks.layouts import Tokens as Tokens
from grumo_jax.networks.network import DepthNetwork as DepthNetwork
from grumo_jax.networks.network import wrap as wrap
from grumo_jax.networks.porting import port_monodepth2 as port_monodepth2
from grumo_jax.networks.shipped import shipped_checkpoint as shipped_checkpoint
from grumo_jax.predictor import Prediction as Prediction
from grumo_jax.predictor import Predictor as Predictor
from grumo_jax.references import FeatureDropout as FeatureDropout
from grumo_jax.references import FeatureNoise as FeatureNoise
from grumo_jax.references import FeatureReference as FeatureReference
from grumo_jax.references import Flip as Flip
from grumo_jax.references import Gray as Gray
from grumo_jax.references import GroundTruth as GroundTruth
from grumo_jax.references import ImageReference as ImageReference
from grumo_jax.references import Noise as Noise
from grumo_jax.references import Reference as Reference
from grumo_jax.references import Rotate as Rotate
from grumo_jax.version import __version__ as __version__

_NAMESPACES = ("ablation", "data", "evaluation", "plots", "report", "synthetic", "training")


def __getattr__(name: str) -> Any:
    if name in _NAMESPACES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_NAMESPACES})
