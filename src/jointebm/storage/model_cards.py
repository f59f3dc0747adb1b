"""The front matter of model cards, which the Hugging Face Hub reads."""

import json

__all__ = ["front_matter"]


def front_matter(*tags: str) -> str:
    """YAML that says which library a model is of; the license is `unknown` until the owner of the model writes one.

    Example:
        >>> print(front_matter("my data"), end="")
        ---
        license: unknown
        library_name: jointebm
        tags:
        - energy-based-model
        - "my data"
        ---
    """
    listed = "".join(f"- {json.dumps(tag)}\n" for tag in tags)
    return f"---\nlicense: unknown\nlibrary_name: jointebm\ntags:\n- energy-based-model\n{listed}---\n"
