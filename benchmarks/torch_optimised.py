"""PyTorch's counterparts of the estimators, plain and as fast as they could be made.

Plain: a pass after another, full backward, hooks. Optimised: channels_last, inference mode, passes
in one batch where that is faster, the encoder once where passes share it, and gradients of
activations alone, from the layer on.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.nn import functional as F
from torch_monodepth2 import CAPTURED, HEAD, REFERENCES, Monodepth2, gradient_uncertainty

PASSES, RATE = 8, 0.2
LAYOUT = torch.channels_last
Maps = tuple[torch.Tensor, torch.Tensor]


def to_depth(disparity: torch.Tensor) -> torch.Tensor:
    """Sigmoid disparity to depth."""
    return 1 / (0.01 + 9.99 * disparity)


def decode(
    model: Monodepth2,
    features: Sequence[torch.Tensor],
    watched: Sequence[int] = (),
    rate: float = 0.0,
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Depth alone (the other scales are not computed), and the watched layers' outputs."""
    layers, captured = model.depth.decoder, []

    def convolve(number: int, x: torch.Tensor) -> torch.Tensor:
        unit = layers[number]
        y = (unit if number == HEAD else unit.conv)(x)
        if number in watched:
            y = y if y.requires_grad else y.requires_grad_()
            captured.append(y)
        if number == HEAD:
            return torch.sigmoid(y)
        y = F.elu(y)
        return F.dropout2d(y, rate, training=True) if rate else y

    x = features[-1]
    for n, i in enumerate(range(4, -1, -1)):
        x = F.interpolate(convolve(2 * n, x), scale_factor=2, mode="nearest")
        if i > 0:
            x = torch.cat([x, features[i - 1]], 1)
        x = convolve(2 * n + 1, x)
    return to_depth(convolve(HEAD, x)), captured


def normalized(score: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Min-max, then resize."""
    low, high = score.amin((2, 3), keepdim=True), score.amax((2, 3), keepdim=True)
    return F.interpolate((score - low) / (high - low), tuple(size), mode="bilinear")


def forward_plain(model: Monodepth2, images: torch.Tensor) -> Maps:
    """Depth."""
    with torch.no_grad():
        depth = model(images)
    return depth, depth


def forward_optimised(model: Monodepth2, images: torch.Tensor) -> Maps:
    """Depth."""
    with torch.inference_mode():
        depth, _ = decode(model, model.encoder(images))
    return depth, depth


def all_layers_plain(model: Monodepth2, images: torch.Tensor) -> Maps:
    """Standard deviation over all layers' maps, one full backward pass."""
    captured: list[torch.Tensor] = []
    hooks = [
        model.decoder_layer(i).register_full_backward_hook(
            lambda module, grad_input, grad_output: captured.append(grad_output[0])
        )
        for i in range(HEAD + 1)
    ]
    with torch.no_grad():
        reference = model(images.flip(3)).flip(3)
    depth = model(images)
    model.zero_grad()
    ((depth - reference) ** 2).mean().backward()
    for hook in hooks:
        hook.remove()
    scores = [g.max(1, keepdim=True).values for g in captured]
    maps = torch.stack([normalized(s, images.shape[2:]) for s in scores])
    return depth.detach(), maps.std(0, correction=0)


def gradient_optimised(
    model: Monodepth2, images: torch.Tensor, layers: Sequence[int] = (CAPTURED,)
) -> Maps:
    """Both images through the encoder together; gradients of the layers' activations alone."""
    with torch.no_grad():
        features = model.encoder(torch.cat([images, images.flip(3)]))
        plain, flipped = zip(*(f.split(len(images)) for f in features), strict=True)
        reference = decode(model, flipped)[0].flip(3)
    depth, captured = decode(model, plain, layers)
    loss = ((depth - reference) ** 2).mean((1, 2, 3)).sum()
    gradients = torch.autograd.grad(loss, captured)
    scores = [g.max(1, keepdim=True).values for g in gradients]
    maps = torch.stack([normalized(s, images.shape[2:]) for s in scores])
    return depth.detach(), maps[0] if len(maps) == 1 else maps.std(0, correction=0)


def all_layers_optimised(model: Monodepth2, images: torch.Tensor) -> Maps:
    """All decoder layers."""
    return gradient_optimised(model, images, range(HEAD + 1))


def variance_plain(model: Monodepth2, images: torch.Tensor) -> Maps:
    """Variance of disparity over the plain and four augmented images."""
    with torch.no_grad():
        depth = model(images)
        views = [undo(1 / model(augment(images))) for augment, undo in REFERENCES.values()]
        return depth, torch.stack([1 / depth, *views]).var(0)


def variance_optimised(model: Monodepth2, images: torch.Tensor) -> Maps:
    """The same in inference mode, on a GPU in one batch; on one core a batch of five is slower."""
    with torch.inference_mode():
        inputs = [images, *(augment(images) for augment, _ in REFERENCES.values())]
        batches = [torch.cat(inputs)] if images.is_cuda else inputs
        encoded = (model.encoder(x.contiguous(memory_format=LAYOUT)) for x in batches)
        depths = torch.cat([decode(model, features)[0] for features in encoded])
        depth, *views = depths.chunk(len(inputs))
        inverted = [undo(1 / v) for v, (_, undo) in zip(views, REFERENCES.values(), strict=True)]
        return depth, torch.stack([1 / depth, *inverted]).var(0)


def dropout_plain(model: Monodepth2, images: torch.Tensor) -> Maps:
    """Variance over passes with dropped channels, each through the whole network."""
    with torch.no_grad():
        depth = model(images)
        passes = [1 / decode(model, model.encoder(images), rate=RATE)[0] for _ in range(PASSES)]
        return depth, torch.stack(passes).var(0)


def dropout_optimised(model: Monodepth2, images: torch.Tensor) -> Maps:
    """The encoder once, and on a GPU the decoder's passes in one batch."""
    with torch.inference_mode():
        features = model.encoder(images)
        depth, _ = decode(model, features)
        times = PASSES if images.is_cuda else 1
        # Unlike `repeat`, this keeps the layout.
        repeated = [torch.cat([f] * times) for f in features] if times > 1 else features
        passes = [1 / decode(model, repeated, rate=RATE)[0] for _ in range(PASSES // times)]
        return depth, torch.cat(passes).unflatten(0, (PASSES, -1)).var(0)


Program = Callable[[Monodepth2, torch.Tensor], Maps]
PLAIN: dict[str, Program] = {
    "forward": forward_plain,
    "Grad, layer 6": gradient_uncertainty,
    "Grad, all layers": all_layers_plain,
    "Var": variance_plain,
    "In-Drop": dropout_plain,
}
OPTIMISED: dict[str, Program] = {
    "forward": forward_optimised,
    "Grad, layer 6": gradient_optimised,
    "Grad, all layers": all_layers_optimised,
    "Var": variance_optimised,
    "In-Drop": dropout_optimised,
}


def prepare(model: Monodepth2, images: Any, optimised: bool) -> tuple[Monodepth2, torch.Tensor]:
    """Network and images (B, H, W, 3) in the layout that is fast."""
    tensor = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
    if not optimised:
        return model, tensor
    model = model.to(memory_format=LAYOUT)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    return model, tensor.to(memory_format=LAYOUT)
