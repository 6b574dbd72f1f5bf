"""Normalisation: one file a kind."""
from naive.norm import batch, group, layer, response
from naive.norm.batch import *
from naive.norm.group import *
from naive.norm.layer import *
from naive.norm.response import *

__all__ = [*batch.__all__, *group.__all__, *layer.__all__, *response.__all__]
