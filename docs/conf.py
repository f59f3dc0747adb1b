"""The documentation as a site: `make docs`."""

import os
import sys
from importlib.metadata import version as version_of
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "extensions"))

project = "jointebm"
author = "The jointebm developers"
copyright = "The jointebm developers, Apache-2.0"
release = version = version_of("jointebm")

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "docstrings",
    "page_texts",
]
exclude_patterns = ["extensions"]
nitpicky = True
smartquotes = False  # "--option" is no dash
default_role = "name"

html_theme = "furo"
html_title = f"jointebm {version}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_theme_options = {
    "source_repository": "https://github.com/jointebm/jointebm/",
    "source_branch": "main",
    "source_directory": "docs/",
}
html_copy_source = False
html_show_sourcelink = False

myst_enable_extensions = ["colon_fence", "deflist", "attrs_block"]
myst_heading_anchors = 4

autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_inherit_docstrings = False
napoleon_use_rtype = False
python_use_unqualified_type_names = True
add_module_names = False
toc_object_entries_show_parents = "hide"

nb_execution_mode = "cache"
nb_execution_in_temp = True  # notebooks write files, and the source tree stays as it is
nb_execution_timeout = 1800  # seconds for one cell, on a busy machine; on an idle core a notebook takes 90 in all
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_merge_streams = True
os.environ.setdefault("OMP_NUM_THREADS", "1")

linkcheck_anchors = False
linkcheck_timeout = 15
