"""The page of `jointebm watch` and its service: chains to clamp and watch, and questions over HTTP.

Needs the extra `watch` (starlette, uvicorn). The page is plain JavaScript and asks no other host for anything.
"""

__all__: list[str] = []
