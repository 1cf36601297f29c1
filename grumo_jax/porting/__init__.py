"""PyTorch weights to Flax variables."""

from grumo_jax.porting.monodepth2 import port_monodepth2 as port_monodepth2
from grumo_jax.porting.torch_files import load_torch_state as load_torch_state
from grumo_jax.porting.torch_files import port_torch_files as port_torch_files
