"""Messages of ffn/utils/vector.proto."""

from ffn.utils import protos

protos.export('ffn/utils/vector.proto', globals())
