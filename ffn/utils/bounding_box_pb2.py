"""Messages of ffn/utils/bounding_box.proto."""

from ffn.utils import protos

protos.export('ffn/utils/bounding_box.proto', globals())
