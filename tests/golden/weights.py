"""Drawn weights of Monodepth2 with ResNet-18, in the layout of its two PyTorch files.

The golden files were made with such weights. They are not trained, so that a seed stands for 57 MB:
every tensor comes from one `numpy.random.RandomState`, whose stream never changes, in the order
below. Another order, or one draw more, would be other weights.
"""

import numpy as np

ENCODER_WIDTHS = (64, 64, 128, 256, 512)
DECODER_WIDTHS = (16, 32, 64, 128, 256)
SCALES = 4


class Stream:
    """Tensors by name, each drawn from where the last one ended."""

    def __init__(self, seed):
        self._random = np.random.RandomState(seed)
        self.tensors = {}

    def convolution(self, name, inputs, outputs, size, *, variance=1.0):
        """Draw a kernel that gives maps of that variance for inputs of variance 1."""
        shape = (outputs, inputs, size, size)
        scale = np.sqrt(variance / (inputs * size * size))
        self._keep(f"{name}.weight", self._random.standard_normal(shape) * scale)

    def small(self, name, width):
        """Draw what is near zero: biases and means."""
        self._keep(name, self._random.standard_normal(width) * 0.1)

    def positive(self, name, width, low, high):
        """Draw what is near one: scales and variances."""
        self._keep(name, self._random.uniform(low, high, width))

    def normalised(self, names, inputs, outputs, size):
        """Draw a convolution without bias and the batch normalisation behind it."""
        convolution, norm = names
        self.convolution(convolution, inputs, outputs, size)
        self.positive(f"{norm}.weight", outputs, 0.5, 1.0)
        self.small(f"{norm}.bias", outputs)
        self.small(f"{norm}.running_mean", outputs)
        self.positive(f"{norm}.running_var", outputs, 0.5, 1.5)

    def biased(self, name, inputs, outputs, *, variance=1.0):
        """Draw a 3×3 convolution with bias."""
        self.convolution(name, inputs, outputs, 3, variance=variance)
        self.small(f"{name}.bias", outputs)

    def _keep(self, name, values):
        self.tensors[name] = values.astype(np.float32)


def draw_states(seed, *, uncertainty=False):
    """The tensors of `encoder.pth` and of `depth.pth`, as the golden files' table has the seeds."""
    return draw_encoder(seed), draw_decoder(seed + 1, uncertainty=uncertainty)


def draw_encoder(seed):
    """The tensors of `encoder.pth`: a ResNet-18 without its classifier."""
    stream = Stream(seed)
    stream.normalised(("encoder.conv1", "encoder.bn1"), 3, ENCODER_WIDTHS[0], 7)
    for stage in range(1, 5):
        before, width = ENCODER_WIDTHS[stage - 1 : stage + 1]
        for block in range(2):
            name = f"encoder.layer{stage}.{block}"
            stream.normalised((f"{name}.conv1", f"{name}.bn1"), before, width, 3)
            stream.normalised((f"{name}.conv2", f"{name}.bn2"), width, width, 3)
            if block == 0 and stage > 1:
                side = f"{name}.downsample.0", f"{name}.downsample.1"
                stream.normalised(side, before, width, 1)
            before = width
    return stream.tensors


def draw_decoder(seed, *, uncertainty):
    """The tensors of `depth.pth`: numbered convolutions, from coarse to fine, then the heads."""
    stream, number = Stream(seed), 0
    before = ENCODER_WIDTHS[-1]
    for scale in reversed(range(len(DECODER_WIDTHS))):
        width = DECODER_WIDTHS[scale]
        skip = ENCODER_WIDTHS[scale - 1] if scale else 0
        stream.biased(f"decoder.{number}.conv.conv", before, width)
        stream.biased(f"decoder.{number + 1}.conv.conv", width + skip, width)
        number, before = number + 2, width
    # Depth that varies over the image, like that of a trained network.
    heads = (16.0, 1.0) if uncertainty else (16.0,)
    for width in DECODER_WIDTHS[:SCALES]:
        for variance in heads:
            stream.biased(f"decoder.{number}.conv", width, 1, variance=variance)
            number += 1
    return stream.tensors
