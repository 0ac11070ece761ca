#!/usr/bin/env bash
# mrcfile 1.5.4, NumPy 2.4.6
#
# MRC files of mode 0 hold bytes. The format of 2014 calls them signed; IMOD, which wrote bytes unsigned for decades,
# records which they are: where the word at byte 152 of the header is its stamp 1146047817, bit 0 of the next word
# says 'signed', and without that bit the bytes are unsigned. mrcfile takes every mode 0 for int8, also where the
# header says unsigned: tissue brighter than 127 becomes negative, darkest of all. It neither raises nor warns, and
# `mrcfile.validate` finds nothing wrong.
#
# Output seen:
#   stored 0, 100, 200, 255; header: IMOD, unsigned; read as int8: [0, 100, -56, -1]; valid: True
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet mrcfile==1.5.4 numpy==2.4.6
cd "$folder" && venv/bin/python - <<'PYTHON'
import contextlib
import io
import struct
import mrcfile
import numpy as np

with mrcfile.new('v.mrc') as file:
    file.set_data(np.array([[[0, 100, -56, -1]]], np.int8))
with open('v.mrc', 'r+b') as file:
    file.seek(152)
    file.write(struct.pack('<ii', 1146047817, 0))
with mrcfile.open('v.mrc') as file:
    read = file.data
with contextlib.redirect_stdout(io.StringIO()):
    valid = mrcfile.validate('v.mrc')
print(f'stored 0, 100, 200, 255; header: IMOD, unsigned; read as {read.dtype}: {read.ravel().tolist()}; valid: {valid}')
raise SystemExit(0 if read.dtype == np.int8 and read.ravel()[2] == -56 and valid else 'the behaviour has changed')
PYTHON
