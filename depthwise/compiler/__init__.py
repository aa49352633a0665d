"""From a network to C that depends on nothing; `pipeline` has the whole road on one screen.

preparation (what raw images need) - fused, passes/ (graph to graph) - places, storage, lowering/,
plan (which kernels run on which places) - algorithms, tune (ways that are timed) - partition,
stream, threads (bands of rows; who does what) - memory (the arena) - emit (C) - target, build (a
shared library) - verify (against PyTorch) - manifest, artifact, library (what a program opens,
without PyTorch).
"""
