"""One file from the Hugging Face hub: from the cache if it is there, else fetched, else refused within seconds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgetl_runtime.errors import InputError

FILES = ("model.safetensors", "pytorch_model.bin")
"""What timm's repositories call their weights, the safe format first."""
ANSWER_WITHIN_S = 4.0
"""How long the hub may take to say what it has; a working one takes well under a second."""


class HubUnreachable(InputError):
    """The hub gave no answer, or networks are switched off."""


def hub_file(repository: str, *, names: Sequence[str] = FILES) -> Path:
    """The first of `names` that the hub's `repository` (owner/name, with @revision if wanted) has, on disk.

    A file in the cache is used without asking the network. Raises HubUnreachable, and InputError for a repository
    that is private, gone or without such a file.
    """
    repo_id, _, revision = repository.partition("@")
    for name in names:
        cached = _cached(repo_id, name, revision or None)
        if cached is not None:
            return cached
    for name in names:
        if _offered(repo_id, name, revision or None):
            return _fetched(repo_id, name, revision or None)
    raise InputError(f"{repository}: the hub has no {' or '.join(names)} there", remedy="give a weights file")


def _cached(repo_id: str, name: str, revision: str | None) -> Path | None:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(repo_id, name, revision=revision, local_files_only=True))
    except LocalEntryNotFoundError:
        return None


def _offered(repo_id: str, name: str, revision: str | None) -> bool:
    """One question with a short limit: the hub's own client would try again for minutes."""
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, RepositoryNotFoundError

    if constants.HF_HUB_OFFLINE:
        raise HubUnreachable("the hub is switched off by HF_HUB_OFFLINE, and its cache does not have the file")
    url = hf_hub_url(repo_id, name, revision=revision, endpoint=constants.ENDPOINT)
    try:
        get_hf_file_metadata(url, timeout=ANSWER_WITHIN_S)
    except EntryNotFoundError:
        return False
    except GatedRepoError as error:
        raise InputError(
            f"{repo_id}: the hub asks for its terms to be accepted first",
            remedy="accept them on the hub and log in, or give a weights file",
        ) from error
    except RepositoryNotFoundError as error:
        raise InputError(f"{repo_id}: the hub has no such repository, or not for you") from error
    except Exception as error:
        raise HubUnreachable(f"the hub {constants.ENDPOINT} can't be reached ({_reason(error)})") from error
    return True


def _fetched(repo_id: str, name: str, revision: str | None) -> Path:
    from huggingface_hub import constants, hf_hub_download

    try:
        return Path(
            hf_hub_download(repo_id, name, revision=revision, endpoint=constants.ENDPOINT, etag_timeout=ANSWER_WITHIN_S)
        )
    except Exception as error:
        raise HubUnreachable(f"{repo_id}/{name}: fetching it failed ({_reason(error)})") from error


def _reason(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:100]}" if text else type(error).__name__
