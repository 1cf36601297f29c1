"""Depth networks as pure linen modules."""

from grumo_jax.models.decoder import DepthDecoder as DepthDecoder
from grumo_jax.models.monodepth2 import DepthOutput as DepthOutput
from grumo_jax.models.monodepth2 import Monodepth2 as Monodepth2
from grumo_jax.models.resnet import ResNet as ResNet
