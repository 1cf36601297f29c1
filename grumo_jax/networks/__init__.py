"""Depth networks as pure linen modules."""

from grumo_jax.networks.decoder import DepthDecoder as DepthDecoder
from grumo_jax.networks.monodepth2 import DepthOutput as DepthOutput
from grumo_jax.networks.monodepth2 import Monodepth2 as Monodepth2
from grumo_jax.networks.resnet import ResNet as ResNet
