#!/usr/bin/env bash
# tifffile 2026.3.3, NumPy 2.4.6
#
# A program that writes a stack section by section, each with its own call of TiffWriter.write, makes one series of
# images for each call, although all have the same shape and type. `imread` and `imread(..., series=0)` then return the
# first section only, as a plain two-dimensional array; the other sections are there (`len(file.pages)`), and
# other readers see a stack of three. Written with contiguous=True, or read with key=slice(None), all three come.
#
# Output seen:
#   pages 3, series 3; imread (4, 5); imread with key=slice(None) (3, 4, 5); contiguous=True: imread (3, 4, 5)
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet tifffile==2026.3.3 numpy==2.4.6
cd "$folder" && venv/bin/python - <<'PYTHON'
import numpy as np
import tifffile

stack = np.arange(60, dtype=np.uint8).reshape(3, 4, 5)
for name, contiguous in (('each.tif', False), ('whole.tif', True)):
    with tifffile.TiffWriter(name) as writer:
        for section in stack:
            writer.write(section, contiguous=contiguous)
with tifffile.TiffFile('each.tif') as file:
    pages, series = len(file.pages), len(file.series)
first, by_key = tifffile.imread('each.tif'), tifffile.imread('each.tif', key=slice(None))
whole = tifffile.imread('whole.tif')
print(f'pages {pages}, series {series}; imread {first.shape}; imread with key=slice(None) {by_key.shape}; '
      f'contiguous=True: imread {whole.shape}')
same = first.shape == (4, 5) and by_key.shape == whole.shape == stack.shape and (pages, series) == (3, 3)
raise SystemExit(0 if same else 'the behaviour has changed')
PYTHON
