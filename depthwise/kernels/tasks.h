/* A part of a region of a network, and what does all parts of one: net_pool_run, or a program's own. */
typedef void (*net_task)(const void *network, int part);
typedef void (*net_parallel_for)(void *context, net_task task, const void *network, int parts);
