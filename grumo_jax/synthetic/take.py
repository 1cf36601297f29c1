"""Filming: a camera that moves through a scene with moving objects, and what it records."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
from flax import struct

from grumo_jax.synthetic.camera import Camera, SceneKind, check_kind, make_camera, rotation_matrix
from grumo_jax.synthetic.render import Frame, render
from grumo_jax.synthetic.scene import Dice, Scene, at_time

INTERVAL = {"street": 0.1, "room": 0.3}
"""Seconds between frames: KITTI's, and enough for a hand-held camera to move on."""
BASELINE = {"street": 0.54, "room": 0.12}
"""Metres from the left camera to the right one: KITTI's, and one for close range."""


@struct.dataclass
class Trip:
    """How the camera moves.

    Attributes:
        velocity: (3,) float32 m/s in the world.
        bend: () float32 sideways shift per squared metre along z, 1/m, as in `Ground`; the camera
            turns with it.
        sway: (2, 3) float32 amplitudes of the swaying: radians of yaw, pitch and roll, and metres.
        rhythm: (2, 3) float32 of the swaying: radians per second, and radians at time 0.

    Example:
        >>> import jax.numpy as jnp
        >>> still = Trip(jnp.zeros(3), jnp.float32(0), jnp.zeros((2, 3)), jnp.zeros((2, 3)))
        >>> still.velocity
        Array([0., 0., 0.], dtype=float32)
    """

    velocity: jax.Array
    bend: jax.Array
    sway: jax.Array
    rhythm: jax.Array


@struct.dataclass
class Sensor:
    """Noise and exposure of a camera.

    Attributes:
        noise: () float32 standard deviation of the noise in white pixels; dark ones have less.
        drift: () float32 stops per second by which the exposure changes.
        flicker: () float32 standard deviation of a frame's exposure, in stops.

    Example:
        >>> import jax.numpy as jnp
        >>> quiet = Sensor(noise=jnp.float32(0), drift=jnp.float32(0), flicker=jnp.float32(0))
        >>> quiet.noise.shape
        ()
    """

    noise: jax.Array
    drift: jax.Array
    flicker: jax.Array


@struct.dataclass
class Take:
    """A scene and a camera, and how both change with time; a pytree that can be vmapped.

    Attributes:
        scene: at time 0.
        camera: at time 0, without swaying.
        trip: of the camera.
        sensor: of the camera.
        seed: () int32 of the sensor's noise.

    Example:
        >>> import jax
        >>> from grumo_jax import synthetic
        >>> plan = lambda key: make_take(synthetic.random_scene(key), key)
        >>> take = jax.eval_shape(plan, jax.random.key(0))
        >>> take.trip.velocity.shape, take.camera.rotation.shape
        ((3,), (3, 3))
    """

    scene: Scene
    camera: Camera
    trip: Trip
    sensor: Sensor
    seed: jax.Array


def make_take(scene: Scene, key: jax.Array, *, kind: SceneKind = "street") -> Take:
    """Put a camera into a scene: on a driving car, or in a hand.

    As in a data set, cameras of a kind share one focal length, and those on cars one height.

    Args:
        scene: from `random_scene`.
        key: typed PRNG key.
        kind: "street" or "room".

    Raises:
        GrumoError: if there is no such kind.

    Example:
        >>> import jax
        >>> from grumo_jax import synthetic
        >>> scene_key, key = jax.random.split(jax.random.key(0))
        >>> take = synthetic.make_take(synthetic.random_scene(scene_key), key)
        >>> later = synthetic.camera_at(take, 0.5)
        >>> bool(later.position[2] > 3)  # metres ahead; `shoot(take, 0.5)` films it
        True
    """
    check_kind(kind)
    return _make_take(scene, key, kind)


# Jitted here, so that a plain call is fast.
@partial(jax.jit, static_argnums=2)
def _make_take(scene: Scene, key: jax.Array, kind: SceneKind) -> Take:
    draw = Dice(key)
    camera, trip = _by_car(draw, scene) if kind == "street" else _by_hand(draw)
    return Take(scene, camera, trip, _sensor(draw), (1e6 * draw.one()).astype(jnp.int32))


def camera_at(take: Take, time: jax.Array | float) -> Camera:
    """The camera at a time, in seconds.

    Example:
        >>> import jax
        >>> from grumo_jax import synthetic
        >>> plan = lambda key: make_take(synthetic.random_scene(key), key)
        >>> take = jax.eval_shape(plan, jax.random.key(0))
        >>> jax.eval_shape(camera_at, take, 1.5).position.shape
        (3,)
    """
    trip, time = take.trip, jnp.asarray(time, jnp.float32)
    way = time * trip.velocity
    angles, shift = trip.sway * jnp.sin(trip.rhythm[:1] * time + trip.rhythm[1:])
    turned = rotation_matrix(jnp.arctan(2 * trip.bend * way[2]), jnp.float32(0), jnp.float32(0))
    swayed = rotation_matrix(angles[0], angles[1], angles[2])
    aside = jnp.array([1.0, 0.0, 0.0]) * trip.bend * way[2] ** 2
    return dataclasses.replace(
        take.camera,
        rotation=turned @ take.camera.rotation @ swayed,
        position=take.camera.position + way + aside + shift,
    )


def beside(camera: Camera, offset: jax.Array | float) -> Camera:
    """The camera moved to its right by metres: the other one of a stereo pair."""
    return dataclasses.replace(camera, position=camera.position + offset * camera.rotation[:, 0])


def motion(target: Camera, source: Camera) -> jax.Array:
    """Transform (4, 4) float32 from one camera's coordinates to another's, metres.

    Example:
        >>> import jax.numpy as jnp
        >>> from dataclasses import replace
        >>> here = Camera(jnp.ones(2), jnp.full(2, 0.5), jnp.eye(3), jnp.zeros(3))
        >>> ahead = replace(here, position=jnp.array([0.0, 0.0, 2.0]))
        >>> motion(here, ahead)[2]
        Array([ 0.,  0.,  1., -2.], dtype=float32)
    """
    turn = source.rotation.T @ target.rotation
    shift = source.rotation.T @ (target.position - source.position)
    top = jnp.concatenate([turn, shift[:, None]], axis=1)
    return jnp.concatenate([top, jnp.array([[0.0, 0.0, 0.0, 1.0]])])


def shoot(
    take: Take,
    time: jax.Array | float,
    *,
    size: tuple[int, int] = (192, 640),
    offset: jax.Array | float = 0.0,
) -> Frame:
    """Record a frame.

    Args:
        take: scene and camera.
        time: seconds.
        size: height and width in pixels.
        offset: metres to the right of the camera.

    Example:
        >>> import jax
        >>> from grumo_jax import synthetic
        >>> plan = lambda key: make_take(synthetic.random_scene(key), key)
        >>> take = jax.eval_shape(plan, jax.random.key(0))
        >>> jax.eval_shape(lambda take: shoot(take, 0.5, size=(24, 32)), take).depth.shape
        (24, 32)
    """
    return _shoot(take, jnp.asarray(time, jnp.float32), jnp.asarray(offset, jnp.float32), size=size)


# Jitted here, so that a plain call is fast.
@partial(jax.jit, static_argnames="size")
def _shoot(take: Take, time: jax.Array, offset: jax.Array, *, size: tuple[int, int]) -> Frame:
    scene, sensor = at_time(take.scene, time), take.sensor
    moment = jnp.rint(1000 * time).astype(jnp.int32)
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), take.seed), moment)
    # The cameras of a pair have different noise, but the same exposure.
    noise_key = jax.random.fold_in(key, (offset != 0).astype(jnp.int32))
    stops = sensor.drift * time + sensor.flicker * jax.random.normal(key)
    light = dataclasses.replace(scene.light, exposure=scene.light.exposure * jnp.exp2(stops))
    scene = dataclasses.replace(scene, light=light)
    frame = render(scene, beside(camera_at(take, time), offset), size=size)
    grains = sensor.noise * jax.random.normal(noise_key, frame.image.shape)
    noisy = frame.image + grains * jnp.sqrt(0.05 + 0.95 * frame.image)
    return dataclasses.replace(frame, image=jnp.clip(noisy, 0, 1))


def _by_car(draw: Dice, scene: Scene) -> tuple[Camera, Trip]:
    camera = make_camera(
        height=draw.one(1.62, 1.68),
        yaw=draw.one(-0.01, 0.01),
        pitch=draw.one(-0.008, 0.008),
        roll=draw.one(-0.004, 0.004),
    )
    speed, bend = draw.one(6, 14), scene.ground.bend
    trip = Trip(
        velocity=jnp.stack([jnp.float32(0), jnp.float32(0), speed]),
        bend=bend,
        sway=jnp.array([[0.001, 0.002, 0.001], [0.005, 0.01, 0.0]]) * draw.one(0, 1),
        rhythm=_rhythm(draw, 5, 12),
    )
    return camera, trip


def _by_hand(draw: Dice) -> tuple[Camera, Trip]:
    camera = make_camera(
        height=draw.one(1.2, 1.6),
        focal=(0.81, 1.08),
        yaw=draw.one(-0.5, 0.5),
        pitch=draw.one(-0.4, 0.05),
        roll=draw.one(-0.04, 0.04),
    )
    heading, speed = draw.one(0, 2 * jnp.pi), draw.one(0.1, 0.5)
    velocity = jnp.stack([jnp.sin(heading), jnp.float32(0), jnp.cos(heading)])
    trip = Trip(
        velocity=speed * velocity,
        bend=jnp.float32(0),
        sway=jnp.array([[0.05, 0.04, 0.02], [0.06, 0.06, 0.03]]) * draw.one(0.3, 1),
        rhythm=_rhythm(draw, 1, 3),
    )
    return camera, trip


def _rhythm(draw: Dice, low: float, high: float) -> jax.Array:
    rates = jnp.stack([draw.one(low, high) for _ in range(3)])
    return jnp.stack([rates, jnp.stack([draw.one(0, 2 * jnp.pi) for _ in range(3)])])


def _sensor(draw: Dice) -> Sensor:
    changes = draw.one() < 0.25
    return Sensor(
        noise=draw.one(0.002, 0.02),
        drift=jnp.where(changes, draw.one(-1.5, 1.5), 0),
        flicker=jnp.where(draw.one() < 0.25, draw.one(0, 0.08), 0),
    )
