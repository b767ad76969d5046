"""An address -> **its file system**, by fsspec; the drivers of most are packages that the user installs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pangu_rl.errors import ConfigError

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "abfs": "adlfs", "oss": "ossfs", "hdfs": "pyarrow with libhdfs"}
"""Scheme -> what it needs. OBS speaks S3: s3fs, with its endpoint."""


def file_system(address: str) -> tuple[AbstractFileSystem, str]:
    """The file system of `address`, and the file's name there.

    Raises:
        ConfigError: no driver of that scheme, or one that does not start; keys are the driver's own affair.
    """
    import fsspec
    from fsspec.core import url_to_fs

    scheme = address.partition("://")[0]
    try:
        return url_to_fs(address)
    except (ImportError, ValueError) as error:
        needed = PACKAGES.get(scheme, f"a package that registers {scheme!r} with fsspec {fsspec.__version__}")
        raise ConfigError(f"{address}: needs {needed}, which is not installed ({_one_line(error)})") from None
    # A driver looks for hosts and keys, each with errors of its own.
    except Exception as error:
        raise ConfigError(f"{address}: its storage cannot be reached: {_one_line(error)}") from None


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
