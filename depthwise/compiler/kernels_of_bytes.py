"""The rows of the table of kernels that compute with bytes: those of quantised networks."""

from depthwise.compiler import work, work_narrow
from depthwise.compiler.kernel import Kernel
from depthwise.compiler.parameters import (
    DEPTHWISE_MULTIPLY_ADD,
    IMAGES,
    IN,
    MULTIPLY_ADD,
    OUT,
    PLANES,
    REQUANTIZE,
    SUM,
    floats,
    ints,
    pointers,
    tables,
)
from depthwise.graph.dtypes import INT8, INT32, UINT8

OF_BYTES = (
    Kernel(
        "quantized_conv", "conv_u8",
        ints(f"{IMAGES} taps channels outs tile_pixels panel tiles pitch weights_outer")
        + ints("prefetch_lines")
        + ints(f"{IN} {OUT} {SUM}") + REQUANTIZE + tables("offsets")
        + pointers("read", "in", UINT8) + pointers("read", "w", INT8)
        + pointers("read", "bias", INT32) + pointers("read", "scale")
        + pointers("read", "sum", UINT8) + pointers("ahead", "next", INT8)
        + pointers("written", "out", UINT8) + pointers("written", "real"),
        dtype=UINT8, multiply_add=MULTIPLY_ADD, products=work.quantized_conv_products,
        arithmetic=work.quantized_conv_arithmetic, count=work_narrow.count_quantized_conv,
        again=work_narrow.tiles_again, streams=work_narrow.tiles_stream,
    ),
    Kernel(
        "quantized_depthwise", "depthwise_u8",
        ints(f"{IMAGES} channels R S {IN} stride_y stride_x dilation_y dilation_x {OUT} w_tap")
        + REQUANTIZE
        + pointers("read", "in", UINT8) + pointers("read", "w", INT8)
        + pointers("read", "bias", INT32) + pointers("read", "scale")
        + pointers("written", "out", UINT8),
        dtype=UINT8, multiply_add=DEPTHWISE_MULTIPLY_ADD, products=work.depthwise_products,
        arithmetic=work.quantized_depthwise_arithmetic,
        count=work_narrow.count_quantized_depthwise,
    ),
    Kernel(
        "quantize", "elementwise_u8",
        ints(f"{IMAGES} channels in_image in_channel in_row in_pixel {OUT} zero") + floats("scale")
        + pointers("read", "in") + pointers("written", "out", UINT8),
        dtype=UINT8,
    ),
    Kernel(
        "dequantize", "elementwise_u8",
        ints("n x_stride y_stride", 6) + ints("zero") + floats("scale")
        + pointers("read", "x", UINT8) + pointers("written", "y"),
        dtype=UINT8,
    ),
    Kernel(
        "lookup", "elementwise_u8",
        ints(f"{IMAGES} channels {IN} {OUT}")
        + pointers("read", "in table", UINT8) + pointers("written", "out", UINT8),
        dtype=UINT8,
    ),
    Kernel(
        "rescale", "elementwise_u8",
        ints(f"{IMAGES} channels {IN} {SUM} {OUT} in_zero") + floats("scale") + REQUANTIZE
        + pointers("read", "in sum", UINT8) + pointers("written", "out", UINT8),
        dtype=UINT8,
    ),
    Kernel(
        "quantized_multiply", "elementwise_u8",
        ints(f"{IMAGES} channels {IN} factor_image factor_row factor_pixel {OUT}")
        + ints("in_zero factor_zero") + floats("scale") + REQUANTIZE
        + pointers("read", "in factor", UINT8) + pointers("written", "out", UINT8),
        dtype=UINT8,
    ),
    Kernel(
        "quantized_mean", "elementwise_u8",
        ints(f"{IMAGES} channels {IN} out_image in_zero") + floats("scale") + REQUANTIZE
        + pointers("read", "in", UINT8) + pointers("written", "out", UINT8)
        + pointers("written", "real"),
        dtype=UINT8,
    ),
    Kernel(
        "quantized_avg_pool", "pool_u8",
        ints(f"{PLANES} kernel_y kernel_x stride_y stride_x top bottom left right")
        + ints(f"count_padding {IN} {OUT} in_zero") + REQUANTIZE
        + pointers("read", "in", UINT8) + pointers("read", "scale")
        + pointers("written", "out", UINT8) + pointers("written", "real"),
        dtype=UINT8,
    ),
    Kernel(
        "copy", "movement_u8",
        ints("n x_stride y_stride", 6)
        + pointers("read", "x", UINT8) + pointers("written", "y", UINT8),
        dtype=UINT8,
    ),
    Kernel(
        "fill_bytes", "movement_u8",
        ints("n", 3) + ints("count") + ints("y_stride", 3) + ints("value")
        + pointers("written", "y", UINT8),
        dtype=UINT8, fills=True,
    ),
    Kernel(
        "surround", "movement_u8",
        ints(f"{IMAGES} channels top bottom left right value") + pointers("written", "y", UINT8),
        dtype=UINT8, fills=True, around=True,
    ),
    Kernel(
        "max_pool", "movement_u8",
        ints(f"{PLANES} kernel_y kernel_x stride_y stride_x top left dilation_y dilation_x")
        + ints(f"{IN} {OUT}") + pointers("read", "in", UINT8) + pointers("written", "out", UINT8),
        dtype=UINT8,
    ),
)  # fmt: skip
