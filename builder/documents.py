"""Reads the YAML files that an administrator writes into a pydantic model; what is wrong is one sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from pathlib import Path

_Model = TypeVar("_Model", bound=BaseModel)


def read_document(file: Path, model: type[_Model], what: str) -> _Model:
    """Return the file's content as ``model`` (an empty file: its defaults).

    Raises :class:`CasabinderError` naming the file (which is ``what``) and the entry at fault.
    """
    try:
        document: Any = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
        return model.model_validate(document)
    except OSError as error:
        raise CasabinderError(f"{what} {file} can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise CasabinderError(f"{what} {file} is not UTF-8 text; save it as UTF-8") from error
    except yaml.YAMLError as error:
        raise CasabinderError(f"{file} is not valid YAML: {' '.join(str(error).split())}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the document"
        raise CasabinderError(f"{file}: {where}: {first['msg']}") from error
