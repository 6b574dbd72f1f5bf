"""The layer functions of Stanford's course CS231n under the course's names, module for module, computed by fastconv.

    from fastconv.cs231n.layers import *            conv_forward_naive, max_pool_forward_naive, batchnorm_forward, ...
    from fastconv.cs231n.fast_layers import *       conv_forward_fast, max_pool_forward_fast, ...
    from fastconv.cs231n.im2col import *            im2col_indices, col2im_indices, get_im2col_indices

Names, argument dictionaries and (out, cache) returns are those of the course's second assignment (https://cs231n.github.io); they have
stayed the same from 2016 to 2026. Where the course's own functions are wrong or give up, these are right:

- Any stride and size is taken: where the windows do not tile the image, the rows and columns left over are ignored (gradient 0). So does
  the course in conv_forward_strides since 2018; elsewhere it stops with an assertion.
- Non-square kernels and pools, and x in Fortran order, are right.
- The gradient of a maximum goes to the first of equal elements; the course's reshape pooling splits it over all of them.
- stride and pad may be pairs, (height, width).

dtypes promote as in NumPy, over all the arrays of a call, and integers go to float64 (max_pool_forward_* keeps x's dtype).
"""
