"""Ablations with shared passes: of Grad's settings over a data set, and of activations."""

from grumo_jax.ablation.grid import Grid as Grid
from grumo_jax.ablation.grid import Signal as Signal
from grumo_jax.ablation.grid import Site as Site
from grumo_jax.ablation.locations import Effect as Effect
from grumo_jax.ablation.locations import ablate_locations as ablate_locations
from grumo_jax.ablation.locations import depth_change as depth_change
from grumo_jax.ablation.locations import error_change as error_change
from grumo_jax.ablation.locations import uncertainty_change as uncertainty_change
from grumo_jax.ablation.pixels import pixel_gradients as pixel_gradients
from grumo_jax.ablation.presets import PRESETS as PRESETS
from grumo_jax.ablation.presets import preset_grid as preset_grid
from grumo_jax.ablation.run import ablate as ablate
from grumo_jax.ablation.sweep import Measure as Measure
from grumo_jax.ablation.sweep import ablate_settings as ablate_settings
