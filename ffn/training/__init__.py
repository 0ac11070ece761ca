"""Training a network: where to train, examples, their augmentation, walks over them, steps and the loop.

`sampling` makes partitions of labels and coordinates from them; `input` reads examples around coordinates;
`augmentation` varies them; `walks` moves the field of view over them. The loop is `train_loop`: it makes
steps (`train_step`, `optimizer`, on the devices of `distribution`), saves them (`run_checkpoints`) and
reports on them (`reporting`, `metrics`, `summaries`, `guidance`).
"""
