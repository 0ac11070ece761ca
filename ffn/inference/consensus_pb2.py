"""Messages of ffn/inference/consensus.proto."""

from ffn.utils import protos

protos.export('ffn/inference/consensus.proto', globals())
