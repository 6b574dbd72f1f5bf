"""Normalisation: one file a kind."""
from . import batch, group, instance, layer, response
from .batch import *
from .group import *
from .instance import *
from .layer import *
from .response import *

__all__ = [*batch.__all__, *group.__all__, *instance.__all__, *layer.__all__, *response.__all__]
