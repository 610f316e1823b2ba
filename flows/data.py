"""Where the package's own data lies: beside the code in a checkout, inside ``flows`` in a wheel."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def data_folder(name: str) -> Path:
    """Return the folder ``deployments`` or ``mlflow`` that belongs to this code.

    Parameters
    ----------
    name : {"deployments", "mlflow"}
        Folder of the checkout, mapped to ``flows/_data`` when the wheel is built.

    Raises
    ------
    FileNotFoundError
        When neither place has it, which means a broken installation.
    """
    for folder in (_PACKAGE.parent / name, _PACKAGE / "_data" / name):
        if folder.is_dir():
            return folder
    msg = f"radloop's own folder '{name}' is missing beside {_PACKAGE}; reinstall radloop"
    raise FileNotFoundError(msg)
