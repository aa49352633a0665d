"""From a network to C that depends on nothing; `pipeline` has the whole road on one screen.

preparation (what raw images need) - fused, passes/ (graph to graph) - places, storage, lower and
lower_*, plan (which kernels run on which places) - memory (the arena) - emit (C) - target, build (a
shared library) - verify (against PyTorch) - manifest, artefact, library (what a program opens,
without PyTorch).
"""
