"""A straightforward PyTorch Monodepth2 (ResNet-18) to compare with; names as in .pth files."""

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

WIDTHS = (64, 64, 128, 256, 512)
DECODER_WIDTHS = (16, 32, 64, 128, 256)
CAPTURED = 6
"""The papers' layer: the up-convolution of stage 1 before its upsampling."""
HEAD = 10
"""The disparity head of the finest scale."""

Reference = tuple[Callable[[torch.Tensor], torch.Tensor], Callable[[torch.Tensor], torch.Tensor]]
"""Augmentation of images (B, 3, H, W), and what brings depth (B, 1, H, W) back."""


def rotate(maps: torch.Tensor, degrees: float) -> torch.Tensor:
    """Rotate (B, C, H, W) about the centre; nearest neighbour, zeros outside."""
    # In float32, since eight bits do not tell neighbouring pixels apart.
    grid = _rotated(maps.shape, degrees, maps.device)
    return F.grid_sample(maps.float(), grid, mode="nearest", align_corners=False).to(maps.dtype)


@cache
def _rotated(shape: Sequence[int], degrees: float, device: torch.device) -> torch.Tensor:
    """Where the pixels of maps of that shape come from."""
    *_, height, width = shape
    angle = torch.deg2rad(torch.tensor(degrees))
    cos, sin, ratio = torch.cos(angle), torch.sin(angle), height / width
    zero = torch.tensor(0.0)
    matrix = torch.stack(
        [torch.stack([cos, -sin * ratio, zero]), torch.stack([sin / ratio, cos, zero])]
    )
    matrix = matrix.to(device).expand(shape[0], 2, 3)
    return F.affine_grid(matrix, list(shape), align_corners=False)


def gray(images: torch.Tensor) -> torch.Tensor:
    """ITU-R 601 gray in three channels."""
    return (images * _luma(images.device, images.dtype)).sum(1, keepdim=True).expand_as(images)


@cache
def _luma(device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    return torch.tensor([0.2989, 0.587, 0.114], dtype=dtype, device=device).view(1, 3, 1, 1)


FLIP: Reference = (lambda x: x.flip(3), lambda d: d.flip(3))
REFERENCES: dict[str, Reference] = {
    "flip": FLIP,
    "gray": (gray, lambda d: d),
    "noise": (lambda x: x + 0.01 * torch.randn_like(x), lambda d: d),
    "rotate": (lambda x: rotate(x, 10.0), lambda d: rotate(d, -10.0)),
}
"""The papers' four."""


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut."""

    def __init__(self, inputs: int, width: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = None
        if stride != 1 or inputs != width:
            shortcut = nn.Conv2d(inputs, width, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, C, h, w) to (B, width, h/stride, w/stride)."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet18(nn.Module):
    """Images, or several side by side in the channels, to five feature maps."""

    def __init__(self, widths: Sequence[int] = WIDTHS, channels: int = 3):
        super().__init__()
        encoder = nn.Module()
        encoder.conv1 = nn.Conv2d(channels, widths[0], 7, 2, 3, bias=False)
        encoder.bn1 = nn.BatchNorm2d(widths[0])
        for i in range(1, 5):
            blocks = [BasicBlock(widths[i - 1], widths[i], 1 if i == 1 else 2)]
            blocks.append(BasicBlock(widths[i], widths[i], 1))
            setattr(encoder, f"layer{i}", nn.Sequential(*blocks))
        self.encoder = encoder

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Map (B, 3, H, W) in [0, 1] to features, finest first."""
        encoder = self.encoder
        features = [F.relu(encoder.bn1(encoder.conv1((images - 0.45) / 0.225)))]
        x = F.max_pool2d(features[0], 3, 2, 1)
        for i in range(1, 5):
            x = getattr(encoder, f"layer{i}")(x)
            features.append(x)
        return features


class PaddedConv(nn.Module):
    """3×3 convolution with reflection padding."""

    def __init__(self, inputs: int, width: int):
        super().__init__()
        self.conv = nn.Conv2d(inputs, width, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, C, h, w) to (B, width, h, w)."""
        return self.conv(F.pad(x, (1, 1, 1, 1), mode="reflect"))


class UpConv(nn.Module):
    """Padded convolution, to be followed by ELU."""

    def __init__(self, inputs: int, width: int):
        super().__init__()
        self.conv = PaddedConv(inputs, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, C, h, w) to (B, width, h, w)."""
        return F.elu(self.conv(x))


class Decoder(nn.Module):
    """Features to disparities at four scales."""

    def __init__(
        self, encoder_widths: Sequence[int] = WIDTHS, widths: Sequence[int] = DECODER_WIDTHS
    ):
        super().__init__()
        layers: list[nn.Module] = []
        for i in range(4, -1, -1):
            inputs = encoder_widths[-1] if i == 4 else widths[i + 1]
            skip = encoder_widths[i - 1] if i > 0 else 0
            layers.append(UpConv(inputs, widths[i]))
            layers.append(UpConv(widths[i] + skip, widths[i]))
        layers += [PaddedConv(widths[s], 1) for s in range(4)]
        self.decoder = nn.ModuleList(layers)

    def forward(self, features: list[torch.Tensor]) -> list[torch.Tensor]:
        """Return sigmoid disparities (B, 1, h, w), finest first."""
        x, disparities = features[-1], []
        for n, i in enumerate(range(4, -1, -1)):
            x = F.interpolate(self.decoder[2 * n](x), scale_factor=2, mode="nearest")
            if i > 0:
                x = torch.cat([x, features[i - 1]], 1)
            x = self.decoder[2 * n + 1](x)
            if i < 4:
                disparities.append(torch.sigmoid(self.decoder[10 + i](x)))
        return disparities[::-1]


class Monodepth2(nn.Module):
    """Images to depth (B, 1, H, W)."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = ResNet18()
        self.depth = Decoder()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map (B, 3, H, W) in [0, 1] to depth."""
        return 1 / (0.01 + 9.99 * self.depth(self.encoder(images))[0])

    def arrays(self) -> list[dict[str, np.ndarray]]:
        """State dicts of encoder and decoder as NumPy arrays, as `port_monodepth2` takes them."""
        parts = (self.encoder, self.depth)
        return [{k: v.numpy() for k, v in part.state_dict().items()} for part in parts]

    def decoder_layer(self, number: int) -> nn.Module:
        """The decoder's convolution of that number, whose output's gradient is read."""
        return (
            self.depth.decoder[number].conv.conv if number < HEAD else self.depth.decoder[HEAD].conv
        )


def gradient_uncertainty(
    model: Monodepth2,
    images: torch.Tensor,
    *,
    layer: int = CAPTURED,
    references: Sequence[Reference] = (FLIP,),
    variance: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Depth and the papers' uncertainty the plain way: two passes, full backward, a hook.

    With `variance` the loss is the variance over the prediction and all references.
    """
    captured: list[torch.Tensor] = []
    hook = model.decoder_layer(layer).register_full_backward_hook(
        lambda module, grad_input, grad_output: captured.append(grad_output[0])
    )
    with torch.no_grad():
        compared = [undo(model(augment(images))) for augment, undo in references]
    depth = model(images)
    model.zero_grad()
    if variance:
        torch.stack([depth, *compared]).var(0).mean().backward()
    else:
        ((depth - compared[0]) ** 2).mean().backward()
    hook.remove()
    score = captured[0].max(1, keepdim=True).values
    low, high = score.amin((2, 3), keepdim=True), score.amax((2, 3), keepdim=True)
    score = (score - low) / (high - low)
    return depth.detach(), F.interpolate(score, images.shape[2:], mode="bilinear")
