/* What the forms of depthwise_u8.h share: the numbers of a call. */

#include "bytes.h"

struct quantized_depthwise {
    int images, rows, width, channels, R, S;
    int in_image, in_row, in_pixel, stride_y, stride_x, dilation_y, dilation_x;
    int out_image, out_row, out_pixel, w_tap;
    struct requantize requantize;
};
