"""The API keys that were set: those of the flag, the variable or the configuration, and those of a file."""

from pathlib import Path

from penstock_server.settings import ServerConfig, SettingsError


def read_keys(config: ServerConfig) -> tuple[str, ...]:
    """Every key, without repetition.

    Raises:
        SettingsError: the file cannot be read, or holds none: then everybody could ask, which nobody meant.
    """
    if config.api_key_file is None:
        return tuple(dict.fromkeys(config.api_key))
    path = Path(config.api_key_file)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise SettingsError(f"api_key_file: cannot read {path}: {reason}") from None
    found = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if not found:
        raise SettingsError(f"api_key_file: {path} holds no key")
    return tuple(dict.fromkeys((*config.api_key, *found)))
