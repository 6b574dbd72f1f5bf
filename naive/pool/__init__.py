"""Pooling: one file a kind."""
from naive.pool import adaptive, average, maximum, power, unpool
from naive.pool.adaptive import *
from naive.pool.average import *
from naive.pool.maximum import *
from naive.pool.power import *
from naive.pool.unpool import *

__all__ = [*adaptive.__all__, *average.__all__, *maximum.__all__, *power.__all__, *unpool.__all__]
