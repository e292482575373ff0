"""The exceptions hub_compat raises on purpose, as one tree.

Every class also derives from the builtin that callers of TensorFlow Hub catch
for the same situation, so an old ``except ValueError`` keeps working::

    HubCompatError
    |-- HandleError (OSError)               nothing usable is at the path
    |   `-- MissingModuleError (ValueError)   what a saved model was made of is gone
    |-- FormatError (ValueError)            not a module, or a format we refuse
    |   `-- CorruptModuleError              a module, but damaged or incomplete
    |       `-- ArchiveError (HandleError)    an archive that is not unpacked
    |-- VariantError (ValueError, RuntimeError, KeyError)   no such tag set
    |-- SignatureError (KeyError, ValueError)   no such signature
    |-- InputError (TypeError, ValueError)    a signature does not take these inputs
    |-- GraphError (RuntimeError, ValueError)   a Module cannot be made or used here
    |-- ConversionError (ValueError)        a module that cannot be converted
    |   `-- UnknownOpError (LookupError)    an op this TensorFlow does not have
    |-- LayerError (ValueError, TypeError)  a KerasLayer cannot be made or called so
    |-- ModuleFnError (ValueError, TypeError, RuntimeError)   no module can be so
    |-- SafeModeError (ValueError)          Keras' safe mode loads no module
    |-- SaveError (ValueError)              a loaded object that cannot be saved
    |-- VerificationError (ValueError)      original and converted module differ
    |-- DestinationError (OSError)          the output directory cannot be used
    |-- CacheError (OSError)                the cache cannot be used
    |-- AttachmentError (ValueError, KeyError)    no such attached message
    |-- OptionsError (ValueError, NotImplementedError)   not in this runtime
    `-- MissingDependencyError (ImportError)  TensorFlow is missing or unusable

A message says what was asked, what was found, what is allowed and what to do
next; the received value stands last.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Optional

__all__ = [
    "ArchiveError",
    "AttachmentError",
    "CacheError",
    "ConversionError",
    "CorruptModuleError",
    "DestinationError",
    "FormatError",
    "GraphError",
    "HandleError",
    "HubCompatError",
    "InputError",
    "LayerError",
    "MissingDependencyError",
    "MissingModuleError",
    "ModuleFnError",
    "OptionsError",
    "SafeModeError",
    "SaveError",
    "SignatureError",
    "UnknownOpError",
    "VariantError",
    "VerificationError",
]


class HubCompatError(Exception):
    """Base of every error that hub_compat raises on purpose."""

    # KeyError and OSError print their arguments in forms of their own; a
    # message written for a person should come out as it was written.
    def __str__(self) -> str:
        return Exception.__str__(self)


class HandleError(HubCompatError, OSError):
    """Nothing usable is at the path or handle."""


class MissingModuleError(HandleError, ValueError):
    """A saved model refers to the directory of a module, which is gone."""


class FormatError(HubCompatError, ValueError):
    """The directory is not a TensorFlow module, or its format is refused."""


class CorruptModuleError(FormatError):
    """The directory is a module, but damaged or incomplete."""


class ArchiveError(CorruptModuleError, HandleError):
    """The archive of a module is unusable, damaged or not trusted."""


class VariantError(HubCompatError, ValueError, RuntimeError, KeyError):
    """The module has no MetaGraph with the requested tag set."""


class SignatureError(HubCompatError, KeyError, ValueError):
    """The module has no signature of that name, or it was skipped."""


class GraphError(HubCompatError, RuntimeError, ValueError):
    """A Module cannot be made, applied or exported in this graph."""


class InputError(HubCompatError, TypeError, ValueError):
    """A signature was called with inputs that it does not accept."""

    # As that of LayerError: Keras calls signatures through autograph.
    if not TYPE_CHECKING:
        __init__ = Exception.__init__


class ConversionError(HubCompatError, ValueError):
    """The module cannot be converted."""


class UnknownOpError(ConversionError, LookupError):
    """The graph holds ops that this TensorFlow does not have."""


class LayerError(HubCompatError, ValueError, TypeError):
    """The arguments of a KerasLayer, or its inputs, do not fit the module."""

    # TensorFlow's autograph, through which Keras 2 calls a layer, raises an error of
    # another class in place of one that has a constructor of its own.
    if not TYPE_CHECKING:
        __init__ = Exception.__init__


class ModuleFnError(HubCompatError, ValueError, TypeError, RuntimeError):
    """What a ``module_fn`` builds, or says of it, cannot be a module."""


class SafeModeError(HubCompatError, ValueError):
    """Keras loads a file in safe mode, but a layer in it would load a module."""


class SaveError(HubCompatError, ValueError):
    """The object cannot be saved as a module."""


class VerificationError(HubCompatError, ValueError):
    """A converted module gives other results than its original.

    Attributes:
      report: the ``VerificationReport``; None where inputs were refused.
    """

    report: Optional[Any] = None


class DestinationError(HubCompatError, OSError):
    """The output directory exists already, or cannot be written."""


class CacheError(HubCompatError, OSError):
    """The cache directory cannot be used."""


class AttachmentError(HubCompatError, ValueError, KeyError):
    """The module has no such attached message, or it cannot be parsed."""


class OptionsError(HubCompatError, ValueError, NotImplementedError):
    """The running TensorFlow, or eager execution, has no such load option."""


class MissingDependencyError(HubCompatError, ImportError):
    """TensorFlow, or another optional package, is missing or unusable."""
