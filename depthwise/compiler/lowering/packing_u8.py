"""Weights of whole numbers in the order in which the kernels of bytes read them."""

import numpy as np

from depthwise.compiler.lowering.packing import round_up

STEP = 64  # channels that a tile of AMX takes at once


def pack_conv_u8(weight: np.ndarray, panel: int, *, tiles: bool = False) -> np.ndarray:
    """Return (K, taps, C) of int8 as u8_quantized_conv reads it, flat.

    In the order [k / panel][tap][c / 4][k % panel][c % 4], zeros beyond the outputs and channels.
    With `tiles` a tap of more than 64 channels has whole steps of 64, the last of which ends with
    the channels. Raises ValueError for `tiles` where 4 does not divide C.
    """
    outs, taps, channels = weight.shape
    if tiles and channels % 4:
        raise ValueError(f"{channels} input channels: tiles take them by fours")
    stepped = tiles and channels > STEP
    places = np.arange(channels)
    if stepped and channels % STEP:
        places[channels - channels % STEP :] += STEP - channels % STEP
    length = round_up(channels, STEP if stepped else 4)
    rows = np.zeros((round_up(outs, panel), taps, length), np.int8)
    rows[:outs, :, places] = weight
    fours = rows.reshape(-1, panel, taps, length // 4, 4)
    return np.ascontiguousarray(fours.transpose(0, 2, 3, 1, 4)).reshape(-1)


def pad_outputs(numbers: np.ndarray, panel: int) -> np.ndarray:
    """Return one number an output, with zeros up to a whole number of panels."""
    padded = np.zeros(round_up(len(numbers), panel), numbers.dtype)
    padded[: len(numbers)] = numbers
    return padded
