"""Port PyTorch weights to Flax variables."""

from grumo_jax.networks.porting.monodepth2 import port_monodepth2 as port_monodepth2
from grumo_jax.networks.porting.torch_files import load_torch_state as load_torch_state
from grumo_jax.networks.porting.torch_files import port_torch_files as port_torch_files
