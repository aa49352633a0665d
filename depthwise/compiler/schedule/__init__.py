"""Where values lie and when kernels run: storage, streaming, threads, the arena."""
