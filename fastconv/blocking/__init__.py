"""Shapes into blocks: what the kernels of each algorithm are told, from shapes, dtype and instruction set alone."""
