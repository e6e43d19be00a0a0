"""Where a checkpoint lies: a folder on this machine, or one fetched from the model hub into its cache.

Knows nothing of what is in the files, loads no torch, and loads the hub library only when a hub is asked, so that a
process without either can find a tokenizer. Invariant: a folder returned holds a `config.json`, and nothing that has
to be unpickled or executed was fetched into it.
"""

import re
from pathlib import Path

# The hub's own rule: letters, digits, '-', '_' and '.', no '-' or '.' at either end of the whole id.
_HUB_ID = re.compile(r"(?=.{3,193}\Z)\b[\w.-]{1,96}\b/\b[\w.-]{1,96}\b", re.ASCII)

# What serving reads: configuration, tokenizer, chat template, weights. All of it lies at the top of a repository.
_WANTED = ["*.json", "*.safetensors", "*.jinja"]
# Subfolders hold other formats; `consolidated*` and `adapter*` hold the same weights again, or parts of others.
_UNWANTED = ["*/*", "consolidated*.safetensors", "adapter*"]


class HubError(Exception):
    """No checkpoint folder for this source; the message names the source and says what to do."""


def resolve_folder(source: str, revision: str | None = None) -> Path:
    """The folder of a checkpoint, downloaded first where `source` is a hub id and its files are not cached yet.

    The hub library's environment variables hold: HF_ENDPOINT, HF_HOME, HF_HUB_OFFLINE, HF_TOKEN and its others.
    With a hub out of reach, an earlier complete download is used.

    Args:
        source: a folder with a `config.json`, or a hub id "org/name". A folder that exists comes first.
        revision: branch, tag or commit of the hub repository; None is its default branch.

    Raises:
        HubError: there is no such folder or repository, it cannot be had, or it has no safetensors weights.
    """
    folder = Path(source).expanduser()
    if folder.exists():
        return _local_folder(source, folder, revision)
    if source.startswith(("/", ".", "~")) or source.count("/") > 1 or "\\" in source:
        raise HubError(f"there is no folder {source!r}")
    if not _is_hub_id(source):
        raise HubError(f"{source!r} is neither a folder on this machine nor a hub id (these look like 'org/name')")
    return _download(source, revision)


def _local_folder(source: str, folder: Path, revision: str | None) -> Path:
    if not folder.is_dir():
        raise HubError(f"{source!r} is a file; give the folder that holds config.json and the weights")
    if not (folder / "config.json").is_file():
        raise HubError(f"the folder {source!r} has no config.json, so it is not a checkpoint")
    if revision is not None:
        raise HubError(f"{source!r} is a folder on this machine and has no revision {revision!r}; only hub ids have")
    return folder


def _is_hub_id(source: str) -> bool:
    return (
        _HUB_ID.fullmatch(source) is not None
        and "--" not in source
        and ".." not in source
        and not source.endswith(".git")
    )


def _download(hub_id: str, revision: str | None) -> Path:
    from huggingface_hub import is_offline_mode, snapshot_download

    try:
        path = snapshot_download(hub_id, revision=revision, allow_patterns=_WANTED, ignore_patterns=_UNWANTED)
    # Any: the library raises OSErrors, its HTTP client's own tree, RuntimeErrors from its transfer threads.
    except Exception as error:
        raise HubError(_explain(hub_id, revision, error)) from error

    folder = Path(path)
    if is_offline_mode() and not (_has_config(folder) and _has_weights(folder)):
        raise HubError(f"{hub_id!r} is cached only in part and HF_HUB_OFFLINE is set; unset it to fetch the rest")
    if not _has_config(folder):
        raise HubError(f"{hub_id!r} has no config.json, so it is not a checkpoint that can be served")
    if not _has_weights(folder):
        raise HubError(
            f"{hub_id!r} has no *.safetensors weights; other formats are never loaded. "
            "Use a revision or a repository that has them, or convert the weights"
        )
    return folder


def _has_config(folder: Path) -> bool:
    return (folder / "config.json").is_file()


def _has_weights(folder: Path) -> bool:
    return any(folder.glob("*.safetensors"))


def _explain(hub_id: str, revision: str | None, error: Exception) -> str:
    """One sentence about what went wrong, and what to do about it."""
    from huggingface_hub import constants, errors

    if isinstance(error, errors.GatedRepoError):
        return (
            f"{hub_id!r} is gated: ask for access at {constants.ENDPOINT}/{hub_id}, "
            "then set HF_TOKEN to a token of that account"
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return (
            f"the hub at {constants.ENDPOINT} shows no model {hub_id!r}: check the name, "
            "or set HF_TOKEN if the model is private"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{hub_id!r} has no revision {revision or constants.DEFAULT_REVISION!r}; give a branch, tag or commit"
    # The library wraps what kept it from the hub in "not found in the cache either".
    reason = error.__cause__ if isinstance(error, errors.LocalEntryNotFoundError) else error
    if constants.HF_HUB_OFFLINE:
        return f"{hub_id!r} is not wholly in the cache and HF_HUB_OFFLINE is set; unset it to download the model"
    if isinstance(reason, errors.HfHubHTTPError):
        status = reason.response.status_code
        hint = "check HF_TOKEN and your access" if status in (401, 403) else "try again later"
        return f"the hub at {constants.ENDPOINT} answered {status} for {hub_id!r}: {hint}"
    if isinstance(reason, errors.FileMetadataError):
        return f"{constants.ENDPOINT} does not answer like a model hub for {hub_id!r}; check HF_ENDPOINT and proxies"
    return (
        f"{hub_id!r} could not be fetched from {constants.ENDPOINT} ({_told(reason)}): check the network, HF_ENDPOINT "
        "and free disk space, or give a local folder"
    )


def _told(error: BaseException | None) -> str:
    """The kind of an error and the first line of its message."""
    if error is None:
        return "no reason given"
    first_line = (str(error).splitlines() or [""])[0]
    return f"{type(error).__name__}: {first_line}" if first_line else type(error).__name__
