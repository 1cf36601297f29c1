"""Port encoder.pth and depth.pth of the official programs to `Monodepth2` and its variables."""

import re
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from grumo_jax.errors import WeightsError
from grumo_jax.networks.decoder import UP_CONVS
from grumo_jax.networks.monodepth2 import LARGEST_SIZE, STRIDE, Monodepth2
from grumo_jax.networks.porting.rules import Rule, apply_rules, conv_kernel, match_shapes
from grumo_jax.networks.porting.states import EXTRAS, State, plain_state, read_size
from grumo_jax.networks.resnet import BLOCKS_PER_STAGE

SCALES = (0, 1, 2, 3)

_BATCH_NORM = (
    ("weight", "params", "scale"),
    ("bias", "params", "bias"),
    ("running_mean", "batch_stats", "mean"),
    ("running_var", "batch_stats", "var"),
)
_EXTRAS_RULE = Rule("|".join(EXTRAS), None)


def _batch_norm_rules(pattern: str, path: str) -> tuple[Rule, ...]:
    return tuple(
        Rule(rf"{pattern}\.{entry}", rf"{collection}/{path}/{leaf}")
        for entry, collection, leaf in _BATCH_NORM
    )


_BLOCK = r"encoder\.layer([1-4])\.(\d+)"
_BLOCK_PATH = r"encoder/layer\1/block\2"

ENCODER_RULES = (
    Rule(r"encoder\.conv1\.weight", "params/encoder/conv1/kernel", conv_kernel),
    *_batch_norm_rules(r"encoder\.bn1", "encoder/bn1"),
    Rule(rf"{_BLOCK}\.conv([1-3])\.weight", rf"params/{_BLOCK_PATH}/conv\3/kernel", conv_kernel),
    *_batch_norm_rules(rf"{_BLOCK}\.bn([1-3])", rf"{_BLOCK_PATH}/bn\3"),
    Rule(
        rf"{_BLOCK}\.downsample\.0\.weight",
        rf"params/{_BLOCK_PATH}/downsample_conv/kernel",
        conv_kernel,
    ),
    *_batch_norm_rules(rf"{_BLOCK}\.downsample\.1", rf"{_BLOCK_PATH}/downsample_bn"),
    # In the official files, but not used by a depth network.
    Rule(r"encoder\.fc\.(weight|bias)", None),
    Rule(r".*\.num_batches_tracked", None),
    _EXTRAS_RULE,
)


def decoder_rules(predict_uncertainty: bool) -> tuple[Rule, ...]:
    """The rules for depth.pth, whose convolutions are numbered consecutively."""
    heads = ("head", "uncertainty_head") if predict_uncertainty else ("head",)
    names = [f"{name}/conv" for name in UP_CONVS]
    names += [f"{head}_{scale}" for scale in SCALES for head in heads]
    rules = [_EXTRAS_RULE]
    for n, name in enumerate(names):
        conv = rf"decoder\.{n}\.conv" + (r"\.conv" if n < len(UP_CONVS) else "")
        rules += [
            Rule(rf"{conv}\.weight", f"params/decoder/{name}/kernel", conv_kernel),
            Rule(rf"{conv}\.bias", f"params/decoder/{name}/bias"),
        ]
    return tuple(rules)


def port_monodepth2(
    encoder_state: State,
    decoder_state: State,
    *,
    output: Literal["disparity", "depth"] = "disparity",
    dropout_rate: float = 0.0,
) -> tuple[Monodepth2, Any]:
    """Port the official PyTorch state dicts to a model and its variables.

    The ResNet's depth, the channel widths, the uncertainty head and the input size are inferred
    from the state dicts. The options give what they do not show: whether the last layer predicts
    disparity or depth, and the dropout rate of the training.

    Args:
        encoder_state: {PyTorch name: numpy array} from `encoder.pth`; may be nested, as
            {"state_dict": …}, and have prefixes of wrappers ("module.").
        decoder_state: the same from `depth.pth`.
        output: "disparity" (self-supervised networks) or "depth" (supervised ones).
        dropout_rate: dropout rate of the training (base model Drop: 0.2).

    Returns:
        (model, variables): a `Monodepth2` and {"params", "batch_stats"}, float32.

    Raises:
        WeightsError: for entries that are missing, surplus, of a wrong shape, or cannot be weights
            (not finite, negative variances, not floating-point); names the first of them.

    Example:
        >>> import grumo_jax
        >>> grumo_jax.port_monodepth2({}, {})
        Traceback (most recent call last):
        ...
        grumo_jax.errors.WeightsError: encoder state: encoder.conv1.weight is missing
    """
    encoder_state = plain_state(encoder_state, "encoder state")
    decoder_state = plain_state(decoder_state, "decoder state")
    head_count = sum(
        1 for name in decoder_state if re.fullmatch(r"decoder\.\d+\.conv\.weight", name)
    )
    predict_uncertainty = head_count > len(SCALES)
    ported = apply_rules(encoder_state, ENCODER_RULES, "encoder state")
    ported |= apply_rules(decoder_state, decoder_rules(predict_uncertainty), "decoder state")
    model = Monodepth2(
        num_layers=_read_num_layers(encoder_state),
        output=output,
        predict_uncertainty=predict_uncertainty,
        dropout_rate=dropout_rate,
        encoder_widths=_read_encoder_widths(encoder_state),
        decoder_widths=_read_decoder_widths(decoder_state),
        input_size=read_size(encoder_state, "encoder state", stride=STRIDE, largest=LARGEST_SIZE),
    )
    images = jax.ShapeDtypeStruct((1, STRIDE, STRIDE, 3), jnp.float32)
    expected = jax.eval_shape(model.init, jax.random.key(0), images)
    return model, match_shapes(ported, expected, "encoder and decoder state")


def _width(state: State, name: str, source: str) -> int:
    if name not in state:
        raise WeightsError(f"{source}: {name} is missing")
    return int(np.shape(state[name])[0])


def _read_num_layers(state: State) -> int:
    blocks: list[set[int]] = [set() for _ in range(4)]
    for name in state:
        if found := re.match(_BLOCK, name):
            blocks[int(found[1]) - 1].add(int(found[2]))
    counts = tuple(map(len, blocks))
    bottlenecks = "encoder.layer1.0.conv3.weight" in state
    _width(state, "encoder.conv1.weight", "encoder state")
    for num_layers, stages in BLOCKS_PER_STAGE.items():
        if stages == counts and bottlenecks == (num_layers >= 50):
            return num_layers
    raise WeightsError(
        f"encoder state: stages of {counts} {'bottleneck' if bottlenecks else 'basic'} blocks "
        "are no ResNet-18, 34, 50, 101 or 152: entries are missing or surplus"
    )


def _read_encoder_widths(state: State) -> tuple[int, ...]:
    stages = (f"encoder.layer{i}.0.conv1.weight" for i in range(1, 5))
    return tuple(_width(state, name, "encoder state") for name in ("encoder.conv1.weight", *stages))


def _read_decoder_widths(state: State) -> tuple[int, ...]:
    # Stages 0 … 4 are the up-convolutions 9, 7, 5, 3, 1 in the official numbering.
    names = (f"decoder.{n}.conv.conv.weight" for n in range(9, 0, -2))
    return tuple(_width(state, name, "decoder state") for name in names)
