"""The table of kernels: the C name of each, its arguments, and how much work a call of it is.

Lowering builds calls that are held to it and `emit` writes them. Threads, streaming and the
estimates of time ask it what a call does: none of them knows a kernel by its name. The C is in
depthwise/kernels/; tests/test_kernel_table.py compares it with the table.
"""

from collections.abc import Mapping

from depthwise.compiler import work, work_narrow
from depthwise.compiler.kernel import Kernel
from depthwise.compiler.kernels_of_bytes import OF_BYTES
from depthwise.compiler.parameters import (
    ACTIVATION,
    DEPTHWISE_MULTIPLY_ADD,
    EPILOGUE,
    IMAGES,
    IN,
    INDEX,
    MULTIPLY_ADD,
    OUT,
    PLANES,
    SUM,
    floats,
    ints,
    pointers,
    tables,
)
from depthwise.graph.dtypes import (
    BFLOAT16,
    CONVERTED,
    FLOAT16,
    FLOAT32,
    NARROW,
    UINT8,
)

# the types that some kernels compute in as well, and what the names of their headers end with
COMPUTED = ((FLOAT32, ""), *((dtype, f"_{dtype.short}") for dtype in NARROW))
CONVERSIONS = (
    *((dtype, "convert") for dtype in CONVERTED),
    *((dtype, f"copy_{dtype.short}") for dtype in NARROW),
)

ROWS = (
    Kernel(
        "conv", "conv",
        ints(f"{IMAGES} taps channels outs groups tile_pixels tile_vectors over_rows tile_depth")
        + ints("panel weights_outer near_steps prefetch_lines prefetch_steps")
        + ints(f"{IN} {OUT} {SUM}") + EPILOGUE + ints("w_taps w_first w_run w_skip")
        + tables("offsets") + pointers("read", "in w bias sum") + pointers("ahead", "next")
        + pointers("written", "out"),
        multiply_add=MULTIPLY_ADD, count=work.count_conv, products=work.conv_products,
        reach=work.conv_reach, again=work.conv_again, streams=work.conv_streams,
        fetches=work.conv_fetches,
    ),
    Kernel(
        "winograd", "winograd",
        ints(f"{IMAGES} channels outs points_y points_x taps_y taps_x")
        + ints(f"tile_pixels tile_vectors panel batch {IN} {OUT} {SUM}") + EPILOGUE
        + pointers("read", "in w bias sum") + pointers("scratch", "scratch")
        + pointers("written", "out"),
        multiply_add=MULTIPLY_ADD, count=work.count_winograd, products=work.winograd_products,
        reach=work.winograd_reach, again=work.winograd_again,
    ),
    Kernel(
        "depthwise", "depthwise",
        ints(f"{IMAGES} channels R S {IN} stride_y stride_x dilation_y dilation_x")
        + ints(f"{OUT} {SUM} w_tap total_image total_row") + EPILOGUE
        + pointers("read", "in w bias sum") + pointers("written", "total out"),
        multiply_add=DEPTHWISE_MULTIPLY_ADD, count=work.count_depthwise,
        products=work.depthwise_products, reach=work.depthwise_reach,
    ),
    *(
        Kernel(
            "tile_conv", f"conv_{dtype.short}",
            ints(f"{IMAGES} taps channels outs pitch weights_outer {IN} {OUT} {SUM}") + EPILOGUE
            + tables("offsets") + pointers("read", "in w", dtype) + pointers("read", "bias")
            + pointers("read", "sum", dtype) + pointers("written", "out", dtype),
            dtype=dtype, multiply_add=MULTIPLY_ADD, products=work.tile_products,
            arithmetic=unit, count=count, reach=work.tile_reach, again=work_narrow.tiles_again,
            streams=work_narrow.tiles_stream,
        )
        for dtype, unit, count in (
            (BFLOAT16, work.bf16_arithmetic, work_narrow.count_bf16_conv),
            (FLOAT16, work.f16_arithmetic, work_narrow.count_f16_conv),
        )
    ),
    *(
        Kernel(
            "pair_depthwise", f"depthwise_{dtype.short}",
            ints(f"{IMAGES} channels R S {IN} stride_y stride_x dilation_y dilation_x")
            + ints(f"{OUT} {SUM} w_tap") + EPILOGUE + pointers("read", "in", dtype)
            + pointers("read", "w", FLOAT32 if dtype == BFLOAT16 else dtype)
            + pointers("read", "bias") + pointers("read", "sum", dtype)
            + pointers("written", "out", dtype),
            dtype=dtype, multiply_add=DEPTHWISE_MULTIPLY_ADD, products=work.depthwise_products,
            arithmetic=work.f16_arithmetic if dtype == FLOAT16 else None,
            count=work_narrow.count_pair_depthwise, reach=work.depthwise_reach,
        )
        for dtype in NARROW
    ),
    Kernel(
        "linear", "linear_f16",
        ints(f"{IMAGES} channels outs {IN} {OUT} {SUM}") + EPILOGUE + pointers("read", "in")
        + pointers("read", "w", FLOAT16) + pointers("read", "bias sum")
        + pointers("written", "out"),
        dtype=FLOAT16, multiply_add=MULTIPLY_ADD, products=work.linear_products,
    ),
    Kernel(
        "deform_conv", "deform",
        ints(f"{IMAGES} in_rows in_width kernel_y kernel_x channels outs groups offset_groups")
        + ints("stride_y stride_x pad_y pad_x dilation_y dilation_x strip_rows strip_width")
        + ints(f"tile_pixels tile_vectors weights_outer {IN} offset_image offset_row offset_pixel")
        + ints(f"mask_image mask_row mask_pixel {OUT} {SUM} column") + EPILOGUE + tables("taps")
        + pointers("read", "in w bias offsets mask sum") + pointers("scratch", "columns")
        + pointers("written", "out"),
        multiply_add=MULTIPLY_ADD,
    ),
    Kernel(
        "deform_roi_pool", "roi",
        ints("boxes_count images channels in_rows in_width bins samples")
        + floats("scale gamma") + ints(f"{IN} offset_image offset_row offset_pixel {OUT}")
        + pointers("read", "in boxes offsets") + pointers("written", "out"),
    ),
    Kernel(
        "local_response_norm", "lrn",
        ints(f"{IMAGES} channels size strip") + floats("alpha power bias") + ints(f"{IN} {OUT}")
        + pointers("read", "in") + pointers("scratch", "squares") + pointers("written", "out"),
    ),
    *(
        Kernel(
            "unary", f"elementwise{end}",
            ints("n", 3) + ints("count") + ints("x_stride y_stride", 3) + ACTIVATION
            + pointers("read", "x", dtype) + pointers("written", "y", dtype),
            dtype=dtype,
        )
        for dtype, end in COMPUTED
    ),
    *(
        Kernel(
            "binary", f"elementwise{end}",
            ints("function") + ints("n left_stride right_stride sum_stride y_stride", 6) + EPILOGUE
            + pointers("read", "left right sum", dtype) + pointers("written", "y", dtype),
            dtype=dtype,
        )
        for dtype, end in COMPUTED
    ),
    Kernel(
        "function", "functions",
        ints("n", 3) + ints("count") + ints("x_stride y_stride", 3) + ACTIVATION
        + pointers("read", "x") + pointers("written", "y"),
    ),
    Kernel(
        "binary_function", "binary_functions",
        ints("function") + ints("n left_stride right_stride y_stride", 6)
        + pointers("read", "left right") + pointers("written", "y"),
    ),
    Kernel(
        "select", "elementwise",
        ints("n condition_stride yes_stride no_stride y_stride", 6)
        + pointers("read", "condition yes no") + pointers("written", "y"),
    ),
    *(
        Kernel(
            "max_pool", f"pool{end}",
            ints(f"{PLANES} kernel_y kernel_x stride_y stride_x top left dilation_y dilation_x")
            + ints(f"{IN} {OUT}") + pointers("read", "in", dtype)
            + pointers("written", "out", dtype),
            dtype=dtype,
        )
        for dtype, end in COMPUTED
    ),
    *(
        Kernel(
            "avg_pool", f"pool{end}",
            ints(f"{PLANES} kernel_y kernel_x stride_y stride_x top bottom left right")
            + ints(f"count_padding divisor {IN} {OUT}")
            + pointers("read", "in", dtype) + pointers("written", "out", dtype),
            dtype=dtype,
        )
        for dtype, end in COMPUTED
    ),
    Kernel(
        "adaptive_pool", "pool",
        ints(f"function {PLANES} {IN} {OUT}") + pointers("read", "in") + pointers("written", "out"),
    ),
    Kernel(
        "batch_norm", "norm",
        ints("n x_stride p_stride y_stride", 4) + ACTIVATION
        + pointers("read", "x scale shift") + pointers("written", "y"),
    ),
    Kernel(
        "normalize", "norm",
        ints("n", 3) + ints("m", 4) + ints("x_stride", 3) + ints("x_inner", 4)
        + ints("p_stride", 3) + ints("p_inner", 4) + ints("y_stride", 3) + ints("y_inner", 4)
        + floats("eps") + ACTIVATION + pointers("read", "x weight bias") + pointers("written", "y"),
    ),
    Kernel(
        "reduce", "reduce",
        ints("function") + ints("n", 3) + ints("m", 4) + ints("x_stride", 3) + ints("x_inner", 4)
        + ints("y_stride", 3) + pointers("read", "x") + pointers("written", "y"),
    ),
    Kernel(
        "softmax", "reduce",
        ints("n", 3) + ints("count") + ints("x_stride", 3) + ints("x_step") + ints("y_stride", 3)
        + ints("y_step") + pointers("read", "x") + pointers("written", "y"),
    ),
    Kernel(
        "arg_reduce", "selection",
        ints("function") + ints("n", 3) + ints("count") + ints("x_stride", 3) + ints("x_step")
        + ints("y_stride", 3) + pointers("read", "x") + pointers("written", "y"),
    ),
    Kernel(
        "top_k", "selection",
        ints("largest places") + ints("n", 3) + ints("count taken") + ints("x_stride", 3)
        + ints("x_step") + ints("y_stride", 3) + ints("y_step")
        + pointers("read", "x") + pointers("scratch", "scratch") + pointers("written", "y"),
    ),
    Kernel(
        "cumulate", "selection",
        ints("function") + ints("n", 3) + ints("count") + ints("x_stride", 3) + ints("x_step")
        + ints("y_stride", 3) + ints("y_step") + pointers("read", "x") + pointers("written", "y"),
    ),
    Kernel(
        "take_along", "selection",
        ints("n", 6) + ints("size") + ints("x_stride", 6) + ints("x_step")
        + ints("index_stride y_stride", 6)
        + pointers("read", "x index") + pointers("written", "y"),
    ),
    Kernel(
        "max_pool_indices", "unpool",
        ints(f"{PLANES} kernel_y kernel_x stride_y stride_x top left dilation_y dilation_x")
        + ints(f"{IN} {OUT}") + pointers("read", "in") + pointers("written", "out"),
    ),
    Kernel(
        "max_unpool", "unpool",
        ints(f"{PLANES} {IN} {INDEX} {OUT}")
        + pointers("read", "in index") + pointers("written", "out"),
    ),
    *(
        Kernel(
            "copy", f"copy{end}",
            ints("n x_stride y_stride", 6) + pointers("read", "x", dtype)
            + pointers("written", "y", dtype),
            dtype=dtype, count=work.count_copy,
        )
        for dtype, end in COMPUTED
    ),
    *(
        Kernel(
            "fill", f"copy{end}",
            ints("n", 3) + ints("count") + ints("y_stride", 3) + floats("value")
            + pointers("written", "y", dtype),
            dtype=dtype, fills=True,
        )
        for dtype, end in COMPUTED
    ),
    *(
        Kernel(
            "fill_border", f"copy{end}",
            ints(f"{IMAGES} channels top bottom left right") + pointers("written", "y", dtype),
            dtype=dtype, count=work.count_border, fills=True, around=True,
        )
        for dtype, end in COMPUTED
    ),
    Kernel(
        "gather", "copy",
        ints("n", 4) + ints("count") + ints("y_stride", 4) + tables("offsets", 4)
        + pointers("read", "x") + pointers("written", "y"),
    ),
    Kernel(
        "pick", "copy",
        ints("n", 3) + ints("count") + ints("x_stride y_stride", 3)
        + ints("places size x_step y_step index_step")
        + pointers("read", "x index") + pointers("written", "y"),
    ),
    Kernel(
        "to_f32", "images",
        ints("images channels rows width x_image x_channel x_row x_pixel y_image y_row y_pixel")
        + pointers("read", "x", UINT8) + pointers("written", "y"),
        dtype=UINT8,
    ),
    *(
        Kernel(
            "to_floats", header, ints("n x_stride y_stride", 6)
            + pointers("read", "x", dtype) + pointers("written", "y"),
            dtype=dtype,
        )
        for dtype, header in CONVERSIONS
    ),
    *(
        Kernel(
            "from_floats", header, ints("n x_stride y_stride", 6)
            + pointers("read", "x") + pointers("written", "y", dtype),
            dtype=dtype,
        )
        for dtype, header in CONVERSIONS
    ),
    *(
        Kernel(
            "pairs_from_floats", f"copy_{dtype.short}",
            ints("images channels rows width x_image x_channel x_row x_pixel y_image y_row y_pixel")
            + pointers("read", "x") + pointers("written", "y", dtype),
            dtype=dtype,
        )
        for dtype in NARROW
    ),
    Kernel(
        "resize_bilinear", "resize",
        ints(f"images channels out_height out_width in_image {OUT}")
        + tables("low_rows high_rows low_columns high_columns")
        + pointers("read", "down right in") + pointers("written", "out"),
    ),
    Kernel(
        "resample", "resample",
        ints("n", 3) + ints("count") + ints("x_stride y_stride", 3) + ints("size x_step y_step")
        + tables("first counts") + pointers("read", "x weights") + pointers("written", "y"),
    ),
    Kernel(
        "grid_sample", "grid",
        ints("mode outside align_corners images channels out_height out_width in_rows in_width")
        + ints(f"{IN} grid_image grid_row grid_pixel grid_axis {OUT}")
        + pointers("read", "in grid") + pointers("written", "out"),
    ),
    Kernel(
        "recurrent", "recurrent",
        ints("function steps batch hidden state projects reverse h_row c_row")
        + pointers("read", "gates w bias project h c") + pointers("scratch", "work")
        + pointers("written", "y"),
    ),
    Kernel(
        "matmul", "matmul",
        ints("n", 3) + ints("rows inner columns") + ints("left_stride", 3)
        + ints("left_row left_inner") + ints("right_stride", 3) + ints("right_inner")
        + ints("y_stride", 3) + ints("y_row")
        + pointers("read", "left right") + pointers("written", "y"),
    ),
    *OF_BYTES,
)  # fmt: skip

KERNELS: Mapping[str, Kernel] = {row.c_name: row for row in ROWS}
