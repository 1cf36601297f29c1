"""Monodepth2 (Godard et al., ICCV 2019), with variants that predict depth or uncertainty."""

import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct

from grumo_jax._internal.checks import check_choice, check_images
from grumo_jax.errors import GrumoError
from grumo_jax.networks.decoder import UP_CONVS, DepthDecoder
from grumo_jax.networks.network import DepthNetwork
from grumo_jax.networks.resnet import ResNet

STRIDE = 32
"""The encoder halves the resolution five times."""
STEREO_SCALE = 5.4
"""Metres per model unit of networks trained on stereo: KITTI's baseline of 0.54 m is 0.1 units."""
LARGEST_SIZE = 2**14
"""Largest height or width in pixels of `input_size`."""
LARGEST_WIDTH = 2**16
"""Largest number of channels of a layer; published networks have a few thousand."""


@struct.dataclass
class DepthOutput:
    """The output of a `Monodepth2`. Tuples have an entry per trained scale, finest first.

    Attributes:
        depths: depth (B, h, w) float32, in model units (`output="disparity"`) or in metres.
        disparities: sigmoid disparities (B, h, w) in (0, 1); None with `output="depth"`.
        log_sigmas: raw outputs s = log σ (B, h, w) of the uncertainty heads, or None.

    Example:
        >>> import jax.numpy as jnp
        >>> output = DepthOutput((jnp.ones((1, 32, 64)), jnp.ones((1, 16, 32))))
        >>> output.depth.shape, output.disparity
        ((1, 32, 64), None)
    """

    depths: tuple[jax.Array, ...]
    disparities: tuple[jax.Array, ...] | None = None
    log_sigmas: tuple[jax.Array, ...] | None = None

    @property
    def depth(self) -> jax.Array:
        """Depth (B, H, W) at full resolution."""
        return self.depths[0]

    @property
    def disparity(self) -> jax.Array | None:
        """Sigmoid disparity (B, H, W) at full resolution, or None."""
        return None if self.disparities is None else self.disparities[0]

    @property
    def log_sigma(self) -> jax.Array | None:
        """Raw uncertainty output s = log σ (B, H, W) at full resolution, or None."""
        return None if self.log_sigmas is None else self.log_sigmas[0]


class Monodepth2(nn.Module):
    """ResNet encoder and Monodepth2 decoder: images to depth at four scales.

    With `output="disparity"` a sigmoid gives disp in (0, 1) and depth is
    1 / (1/max_depth + (1/min_depth − 1/max_depth)·disp), in model units. With
    `output="depth"` the head's raw output is the depth in metres.

    Attributes:
        num_layers: depth of the ResNet: 18, 34, 50, 101 or 152.
        output: "disparity" (self-supervised networks) or "depth" (supervised ones).
        predict_uncertainty: whether a second head predicts s = log σ.
        dropout_rate: rate of channel dropout after each up-convolution, if `dropout=True`.
        encoder_widths: channels of the stem and the four stages (before the ×4 of bottlenecks).
        decoder_widths: channels of decoder stages 0 (full resolution) to 4.
        scales: scales with an output head; must contain 0.
        min_depth, max_depth: the range of depth that disparity is mapped to.
        input_size: (height, width) of the training images. `Predictor` resizes photos to it; the
            network itself takes multiples of 32.
        dtype: dtype of the computation; the parameters' by default. Outputs are float32.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> import grumo_jax
        >>> model = grumo_jax.Monodepth2.tiny()
        >>> images = jnp.zeros((2, 32, 64, 3))
        >>> variables = jax.jit(model.init)(jax.random.key(0), images)
        >>> model.apply(variables, images).depth.shape
        (2, 32, 64)

    Reference: Godard et al., "Digging Into Self-Supervised Monocular Depth Estimation",
    ICCV 2019.
    """

    num_layers: int = 18
    output: Literal["disparity", "depth"] = "disparity"
    predict_uncertainty: bool = False
    dropout_rate: float = 0.0
    encoder_widths: tuple[int, ...] = (64, 64, 128, 256, 512)
    decoder_widths: tuple[int, ...] = (16, 32, 64, 128, 256)
    scales: tuple[int, ...] = (0, 1, 2, 3)
    min_depth: float = 0.1
    max_depth: float = 100.0
    input_size: tuple[int, int] | None = None
    dtype: Any = None

    def __post_init__(self) -> None:
        # Lists become tuples: configurations must be hashable.
        for name in ("encoder_widths", "decoder_widths", "scales", "input_size"):
            if (value := getattr(self, name)) is not None:
                object.__setattr__(self, name, tuple(value))
        super().__post_init__()

    @classmethod
    def tiny(cls, **options: Any) -> "Monodepth2":
        """A network of thirty thousand parameters, for examples and tests; takes the same options.

        Example:
            >>> import grumo_jax
            >>> grumo_jax.Monodepth2.tiny(output="depth").encoder_widths
            (8, 8, 8, 16, 16)
        """
        widths = {"encoder_widths": (8, 8, 8, 16, 16), "decoder_widths": (4, 4, 8, 8, 8)}
        return cls(**{**widths, **options})

    @property
    def decoder_layers(self) -> tuple[str, ...]:
        """The eleven pre-activation decoder convolutions, in the official numbering 0 … 10."""
        return (*(f"decoder/{name}/conv" for name in UP_CONVS), "decoder/head_0")

    @property
    def dropout_layers(self) -> tuple[str, ...]:
        """The ten activated up-convolutions whose channels the papers drop."""
        return tuple(f"decoder/{name}" for name in UP_CONVS)

    @property
    def feature_layers(self) -> tuple[str, ...]:
        """The encoder, whose output is the decoder's five feature maps."""
        return ("encoder",)

    @nn.nowrap
    def as_depth_network(self) -> DepthNetwork:
        """This network as a `DepthNetwork`."""
        return DepthNetwork(
            self,
            log_sigma=_log_sigma if self.predict_uncertainty else None,
            predicts=self.output,
            least_disparity=1 / self.max_depth,
            decoder_layers=self.decoder_layers,
            dropout_layers=self.dropout_layers,
            dropout_rate=self.dropout_rate or None,
            feature_layers=self.feature_layers,
        )

    @nn.compact
    def __call__(
        self, images: jax.Array, *, train: bool = False, dropout: bool | None = None
    ) -> DepthOutput:
        """Predict depth.

        Args:
            images: (B, H, W, 3) float in [0, 1]; H and W multiples of 32.
            train: whether BatchNorm uses batch statistics and updates its running statistics.
            dropout: whether to drop channels (needs `rngs={"dropout": key}`); `train` by default.

        Raises:
            GrumoError: for an invalid shape, size, dtype or configuration.
        """
        self._check(images)
        encoder = ResNet(self.num_layers, self.encoder_widths, self.dtype, name="encoder")
        decoder = DepthDecoder(
            self.decoder_widths,
            self.scales,
            self.predict_uncertainty,
            self.dropout_rate,
            self.dtype,
            name="decoder",
        )
        features = encoder(images.astype(self.dtype or images.dtype), train=train)
        predictions, log_sigmas = decoder(features, dropout=train if dropout is None else dropout)
        # Depth is a reciprocal: it is computed in float32 even if the network runs in bfloat16.
        raw = tuple(predictions[s].astype(jnp.float32) for s in sorted(self.scales))
        uncertain = tuple(log_sigmas[s].astype(jnp.float32) for s in sorted(log_sigmas))
        if self.output == "depth":
            return DepthOutput(raw, None, uncertain or None)
        disparities = tuple(nn.sigmoid(x) for x in raw)
        depths = tuple(self.disparity_to_depth(d) for d in disparities)
        return DepthOutput(depths, disparities, uncertain or None)

    def disparity_to_depth(self, disparity: jax.Array) -> jax.Array:
        """Map sigmoid disparity in (0, 1) to depth in (min_depth, max_depth), any shape."""
        low, high = 1 / self.max_depth, 1 / self.min_depth
        return 1 / (low + (high - low) * disparity)

    def _check(self, images: jax.Array) -> None:
        self._check_configuration()
        check_images(images, channels=3)
        _, height, width, _ = images.shape
        if height % STRIDE or width % STRIDE:
            near = tuple(max(STRIDE, round(n / STRIDE) * STRIDE) for n in (height, width))
            raise GrumoError(
                f"images are {height}×{width}; height and width must be multiples of {STRIDE}: "
                f"resize them, for example to {near[0]}×{near[1]}, or use grumo_jax.Predictor, "
                "which resizes photos and maps the results back"
            )

    def _check_configuration(self) -> None:
        widths, size = (*self.encoder_widths, *self.decoder_widths), self.input_size
        check_choice("output", self.output, ("disparity", "depth"))
        if len(self.encoder_widths) != 5 or len(self.decoder_widths) != 5 or 0 not in self.scales:
            raise GrumoError(
                f"encoder_widths {self.encoder_widths} and decoder_widths {self.decoder_widths} "
                f"must have five entries each, and scales {self.scales} must contain 0"
            )
        if not all(1 <= width <= LARGEST_WIDTH for width in widths):
            raise GrumoError(
                f"encoder_widths {self.encoder_widths} and decoder_widths {self.decoder_widths} "
                f"must be from 1 to {LARGEST_WIDTH}"
            )
        if set(self.scales) - {0, 1, 2, 3} or len(set(self.scales)) != len(self.scales):
            raise GrumoError(f"scales {self.scales} must be some of 0, 1, 2, 3, each once")
        if not 0 <= self.dropout_rate < 1:
            raise GrumoError(f"dropout_rate is {self.dropout_rate}; expected 0 to less than 1")
        if not 0 < self.min_depth < self.max_depth < math.inf:
            raise GrumoError(
                f"min_depth is {self.min_depth} and max_depth {self.max_depth}; expected positive "
                "numbers, the second one larger"
            )
        if size is not None and (
            len(size) != 2 or any(n % STRIDE or not 0 < n <= LARGEST_SIZE for n in size)
        ):
            raise GrumoError(
                f"input_size {size} must be (height, width), multiples of {STRIDE} up to "
                f"{LARGEST_SIZE}"
            )


def _log_sigma(output: DepthOutput) -> jax.Array:
    assert output.log_sigma is not None
    return output.log_sigma
