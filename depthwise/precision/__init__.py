"""Trained networks in fewer bits, judged on images.

quantize (`dw.quantize`: images, the road of quantization/, and what came of it) - options (what is
asked) - record, quantized (what is kept) - curve, curve_picture (agreement against milliseconds).
compiling (`dw.compile`) - request (the precision that a library is asked for) - quantising (int8) -
choosing (auto).
"""
