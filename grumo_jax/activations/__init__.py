"""Look inside any unmodified Flax network: list, capture, differentiate and edit activations."""

from grumo_jax.activations.access import activation_gradients as activation_gradients
from grumo_jax.activations.access import activation_shapes as activation_shapes
from grumo_jax.activations.access import activation_vjp as activation_vjp
from grumo_jax.activations.access import apply_model as apply_model
from grumo_jax.activations.access import capture_activations as capture_activations
from grumo_jax.activations.access import edit_activations as edit_activations
from grumo_jax.activations.calls import Call as Call
from grumo_jax.activations.calls import list_calls as list_calls
from grumo_jax.activations.choose import choose_layers as choose_layers
from grumo_jax.activations.names import LayerNames as LayerNames
from grumo_jax.activations.names import name_layers as name_layers
from grumo_jax.activations.names import number_layers as number_layers
