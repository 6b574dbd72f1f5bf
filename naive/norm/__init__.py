"""Normalisation: one file a kind."""
from naive.norm import batch, response
from naive.norm.batch import *
from naive.norm.response import *

__all__ = [*batch.__all__, *response.__all__]
