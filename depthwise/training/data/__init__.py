"""Labelled images, wherever they come from, as squares of pixels that a network is trained on.

dataset (the types) - opening (the kinds of data, a row each): folder, labels_csv (labelled_files),
named (idx, cifar, mosaic, arrays), shards (shard_paths, tar_index, shard_images), hub
(table_images) - assembling (what all have in common): split, duplicates - squares: decode,
kept_squares (the cache).
"""
