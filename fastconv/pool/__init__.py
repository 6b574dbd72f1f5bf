"""Pooling: one file a kind."""
from . import adaptive, average, maximum, power, unpool
from .adaptive import *
from .average import *
from .maximum import *
from .power import *
from .unpool import *

__all__ = [*adaptive.__all__, *average.__all__, *maximum.__all__, *power.__all__, *unpool.__all__]
