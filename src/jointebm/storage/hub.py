"""Models on the Hugging Face Hub: the files of a model folder, downloaded within limits, or uploaded in one commit.

Needs the extra `hub`. What is downloaded is a model folder like any other, and is read and checked as one.
"""

import os
import re
from abc import ABC, abstractmethod
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NoReturn

from jointebm.storage.untrusted import quoted

__all__ = ["OnHub", "download_model", "is_hub_name"]

FILES = ("config.json", "model.safetensors", "README.md")
NEEDED = FILES[:2]
MAX_BYTES = 1 << 32  # of all files that are downloaded
HUB_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")


class OnHub(ABC):
    """A model that can be uploaded; what can be saved can be."""

    @abstractmethod
    def save(self, path: str | os.PathLike[str]) -> Path:
        """Writes a model folder."""

    def push_to_hub(
        self,
        name: str,
        *,
        private: bool = False,
        message: str = "Upload a model of jointebm",
        revision: str | None = None,
        token: str | None = None,
    ) -> str:
        """Uploads the files of the model folder to the Hugging Face Hub, in one commit; makes the repository if needed.

        Files of an earlier upload are replaced; its history keeps them. `jointebm.load(name)` reads the model again. The
        folder of a table model holds names, categories and frequent values of its columns: publish it only if they may be.

        Args:
            name: the repository, as owner/name.
            private: whether a repository that is made is private; one that exists stays as it is.
            message: of the commit.
            revision: branch that is committed to; None is the main one.
            token: of an account that may write; None is that of `hf auth login`, or of the variable HF_TOKEN.

        Returns:
            Address of the commit.

        Raises:
            ImportError: huggingface_hub is not installed.
            ValueError: `name` is not owner/name, or as `save`.
            OSError: the Hub refuses or cannot be reached.

        Example:
            >>> import jointebm
            >>> jointebm.load("pretrained:toy").push_to_hub("my model")
            Traceback (most recent call last):
            ValueError: push_to_hub: got 'my model', expected owner/name, of letters, digits, '-', '_' and '.'
        """
        if not is_hub_name(name):
            raise ValueError(
                f"push_to_hub: got {quoted(repr(name))}, expected owner/name, of letters, digits, '-', '_' and '.'"
            )
        hub, no_answer = _library(f"push_to_hub: {name}")
        with TemporaryDirectory() as scratch:
            folder = self.save(Path(scratch) / "model")
            added = [hub.CommitOperationAdd(path_in_repo=file, path_or_fileobj=folder / file) for file in FILES]
            api = hub.HfApi(token=token)
            try:
                api.create_repo(name, private=private, exist_ok=True)
                commit = api.create_commit(name, added, commit_message=message, revision=revision)
            except (hub.errors.HfHubHTTPError, no_answer) as error:
                _refuse(name, revision, error, hub)
        return str(commit.commit_url)


def is_hub_name(name: str) -> bool:
    """Whether a text can name a repository, owner/name.

    Example:
        >>> is_hub_name("someone/penguins"), is_hub_name("runs/../penguins"), is_hub_name("./penguins")
        (True, False, False)
    """
    return HUB_NAME.fullmatch(name) is not None and ".." not in name


def download_model(name: str, revision: str | None = None) -> Path:
    """The model folder of a repository in the cache of huggingface_hub; downloads what is not there yet.

    Without a connection the cached copy of the revision is taken.

    Args:
        name: owner/name.
        revision: branch, tag or commit; None is the main branch.

    Raises:
        ImportError: huggingface_hub is not installed.
        FileNotFoundError: no such repository or revision, or it holds no model of this library.
        ValueError: its files are too large.
        OSError: the Hub refuses or cannot be reached, and no copy is cached.
    """
    hub, no_answer = _library(f"load: {name}")
    wanted: dict[str, Any] = {"revision": revision, "allow_patterns": list(FILES)}
    try:
        found = hub.HfApi().model_info(name, revision=revision, files_metadata=True)
        _check_files(name, {file.rfilename: file.size for file in found.siblings or ()})
        return Path(hub.HfApi().snapshot_download(name, **wanted))
    except (no_answer, hub.errors.OfflineModeIsEnabled) as error:
        try:
            return Path(hub.HfApi().snapshot_download(name, local_files_only=True, **wanted))
        except hub.errors.LocalEntryNotFoundError:
            raise OSError(f"{name}: the Hub cannot be reached ({quoted(error)}), and no copy is cached") from None
    except hub.errors.HfHubHTTPError as error:
        _refuse(name, revision, error, hub)


def _check_files(name: str, sizes: dict[str, int | None]) -> None:
    """Raises unless a repository holds the files of a model, within the limit."""
    missing = [file for file in NEEDED if file not in sizes]
    if missing:
        raise FileNotFoundError(
            f"{name}: this repository misses {' and '.join(missing)}; a model of jointebm holds {' and '.join(NEEDED)}"
        )
    total = sum(sizes[file] or 0 for file in FILES if file in sizes)
    if total > MAX_BYTES:
        raise ValueError(
            f"{name}: its files have {total} bytes, and at most {MAX_BYTES} are downloaded; download it yourself, and load "
            "the folder"
        )


def _refuse(name: str, revision: str | None, error: Exception, hub: Any) -> NoReturn:
    """Raises what an answer of the Hub means, as one line."""
    if isinstance(error, hub.errors.GatedRepoError):
        raise OSError(
            f"{name}: access is restricted; ask for it on the page of the model, then: hf auth login"
        ) from None
    if isinstance(error, hub.errors.RevisionNotFoundError):
        raise FileNotFoundError(f"{name}: no revision {quoted(repr(revision))} on the Hub") from None
    if isinstance(error, hub.errors.RepositoryNotFoundError):
        raise FileNotFoundError(
            f"{name}: no such folder, and no such model on the Hub; a private one needs: hf auth login"
        ) from None
    raise OSError(f"{name}: the Hub answers: {quoted(str(error).strip().splitlines()[0])}") from None


def _library(what: str) -> tuple[Any, type[Exception]]:
    """huggingface_hub, and the error of a server that does not answer."""
    try:
        import huggingface_hub.errors
        from httpx2 import TransportError
    except ImportError:
        raise ImportError(
            f"{what}: models on the Hugging Face Hub need huggingface_hub: pip install 'jointebm[hub]'"
        ) from None
    return huggingface_hub, TransportError
