"""Every public model file that one of our graphs names, by its name."""

from . import model_files, personalised_4d
from .builder import ModelFile

KNOWN = {value.name: value for module in (model_files, personalised_4d) for value in vars(module).values() if isinstance(value, ModelFile)}
