"""Normalisation: one file a kind."""
from . import batch, response
from .batch import *
from .response import *

__all__ = [*batch.__all__, *response.__all__]
