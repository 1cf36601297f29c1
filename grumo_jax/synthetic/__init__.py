"""A small synthetic world with exact depth: seeded random streets and rooms, cast ray by ray."""

from functools import partial

import jax

from grumo_jax.synthetic.camera import Camera as Camera
from grumo_jax.synthetic.camera import SceneKind as SceneKind
from grumo_jax.synthetic.camera import check_kind
from grumo_jax.synthetic.camera import make_camera as make_camera
from grumo_jax.synthetic.camera import random_camera as random_camera
from grumo_jax.synthetic.render import Frame as Frame
from grumo_jax.synthetic.render import render as render
from grumo_jax.synthetic.room import random_room
from grumo_jax.synthetic.scene import Scene as Scene
from grumo_jax.synthetic.street import random_street
from grumo_jax.synthetic.take import Sensor as Sensor
from grumo_jax.synthetic.take import Take as Take
from grumo_jax.synthetic.take import Trip as Trip
from grumo_jax.synthetic.take import camera_at as camera_at
from grumo_jax.synthetic.take import make_take as make_take
from grumo_jax.synthetic.take import motion as motion
from grumo_jax.synthetic.take import shoot as shoot


def random_scene(key: jax.Array, kind: SceneKind = "street") -> Scene:
    """Draw a random scene.

    Args:
        key: typed PRNG key.
        kind: "street" (driving: up to 100 m and beyond) or "room" (indoors: up to 10 m).

    Raises:
        GrumoError: if there is no such kind.

    Example:
        >>> import jax
        >>> from grumo_jax import synthetic
        >>> scene = synthetic.random_scene(jax.random.key(0))
        >>> scene.boxes.centre.shape, bool(scene.ground.active)
        ((36, 3), True)
    """
    check_kind(kind)
    return _random_scene(key, kind)


# Jitted here, so that a plain call is fast.
@partial(jax.jit, static_argnums=1)
def _random_scene(key: jax.Array, kind: SceneKind) -> Scene:
    return random_room(key) if kind == "room" else random_street(key)


def random_frame(
    key: jax.Array, *, kind: SceneKind = "street", size: tuple[int, int] = (192, 640)
) -> Frame:
    """Render a random scene from a random camera.

    Args:
        key: typed PRNG key; the same key gives the same frame.
        kind: "street" or "room".
        size: height and width in pixels.

    Example:
        >>> import jax
        >>> from grumo_jax import synthetic
        >>> frame = synthetic.random_frame(jax.random.key(3), kind="room", size=(24, 32))
        >>> bool((frame.depth > 0).all())
        True
    """
    scene_key, camera_key = jax.random.split(key)
    return render(random_scene(scene_key, kind), random_camera(camera_key, kind), size=size)
