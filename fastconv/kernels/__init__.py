"""Arrays and integers in, arrays out: serial kernels and the drivers that split them over threads. Nothing here validates.

What a kernel may assume of its arguments: arrays are C-contiguous, aligned, in native byte order, of one floating dtype, and typed
as writeable (inputs are never written all the same); sizes agree; a `geometry` is the int64 array that its family's `unpack` names.
"""
