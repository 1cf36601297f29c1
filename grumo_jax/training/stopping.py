"""Stop a run after the same step in all processes."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from grumo_jax._internal.meshes import replicated
from grumo_jax.training.devices import share


@dataclass
class Stopping:
    """Agreement of all processes on whether to stop.

    A single process stops at once. Several stop a few steps after the first request: by then all of
    them know, and no device had to wait.

    Attributes:
        should_stop: whether this process was asked to stop.
        mesh: the devices of all processes.
        lag: steps after which the common answer is read.
    """

    should_stop: Callable[[], bool]
    mesh: Mesh
    lag: int
    _answers: deque[jax.Array] = field(default_factory=deque)

    def __call__(self) -> bool:
        """Whether to stop; call it after every step."""
        wanted = self.should_stop()
        if jax.process_count() == 1:
            return wanted
        here = np.full(len(self.mesh.local_devices), wanted)
        self._answers.append(_any(share(here, self.mesh), self.mesh))
        return len(self._answers) > self.lag and bool(self._answers.popleft())


@partial(jax.jit, static_argnames="mesh")
def _any(wanted: jax.Array, mesh: Mesh) -> jax.Array:
    return jax.lax.with_sharding_constraint(jnp.any(wanted), replicated(mesh))
