"""Messages of ffn/inference/resegmentation.proto."""

from ffn.utils import protos

protos.export('ffn/inference/resegmentation.proto', globals())
