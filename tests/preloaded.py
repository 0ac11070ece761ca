"""What the processes of tests.loaded begin with; loading this must start no thread."""

from ffn.utils.startup import startup_messages_hidden

with startup_messages_hidden():
    import ffn.assembly.segment_volume
    import ffn.inference.box_run
    import ffn.models.predictor
    import ffn.training.train_loop  # noqa: F401
