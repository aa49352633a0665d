"""Networks that were trained, made to meet a budget and to keep what they know.

slim (`dw.slim`: what follows, put together) - request, budget (what is asked) - search (round by
round), for each: offers (of moves/, one file a move), knapsack (which of them), correction
(milliseconds that hold), curve, state (what survives a kill) - slimmed, draft, statistics (the
values that all share), frozen, unknown (what stays as it is), notes (what is told).

channels/ (which live or die together, and a network without some) - layers/ (one layer, and others
in its place) - fitting/ (calibration, reconstruction in closed form, mimicking, recovery, images
where there are none) - costs/ (what is planned, compiled and timed). A new move is a file in moves/
and a row of its table.
"""
