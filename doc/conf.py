"""Configuration of Sphinx: the documents of this folder and the API, from docstrings (`make docs`)."""

from ffn import __version__

project = 'Flood-filling networks'
author = copyright = 'The flood-filling-networks developers'
release = version = __version__

extensions = [
    'myst_parser',
    'sphinx.ext.apidoc',
    'sphinx.ext.autodoc',
    'sphinx.ext.napoleon',
    'sphinx.ext.viewcode',
]
source_suffix = {'.md': 'markdown', '.rst': 'restructuredtext'}
exclude_patterns = ['api/modules.rst']
myst_heading_anchors = 3
# Links to files outside this folder, which only the repository has; names such as x that several classes have.
suppress_warnings = ['myst.xref_missing', 'ref.python']

apidoc_modules = [
    {
        'path': '../ffn',
        'destination': 'api',
        'exclude_patterns': ['**/*_pb2.py', '**/__main__.py'],
        'separate_modules': True,
        'module_first': True,
        'implicit_namespaces': False,
    }
]
autodoc_member_order = 'bysource'
autodoc_typehints = 'signature'
napoleon_numpy_docstring = False
napoleon_use_ivar = True

html_theme = 'furo'
html_title = f'Flood-filling networks {__version__}'
