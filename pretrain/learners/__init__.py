"""Learners, one a file: each an objective that plugs into `pretrain.fit`."""
