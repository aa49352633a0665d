"""From a network to C that depends on nothing; `pipeline` has the whole road on one screen.

preparation (what raw images need) - passes/ (graph to graph; `fused_ops` are what only they make) -
planning: lowering/ (from operators to calls of kernels, of which `kernels` has the table and `work`
the price) and schedule/ (where values lie, bands of rows, threads, the arena) - autotune/ (ways
that are timed) - assemble: codegen/ (C from a plan), and toolchain, which makes a shared library of
it - verification/ (whether it computes what the network does).
"""
