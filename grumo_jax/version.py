"""The version, in the one place from which the package's metadata has it, too."""

__version__ = "0.1.0"
