"""Messages of ffn/inference/inference.proto."""

from ffn.utils import protos

protos.export('ffn/inference/inference.proto', globals())
