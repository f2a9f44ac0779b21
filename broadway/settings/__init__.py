"""Settings of every program: command line > environment > config file > default. Nothing is read before main()."""

from broadway.settings.loading import EX_CONFIG, Loaded, load, read
from broadway.settings.masking import masked
from broadway.settings.programs import (
    PROGRAMS,
    ApiSettings,
    DispatcherSettings,
    GraderSettings,
    IngestSettings,
    LogSettings,
    MongoSettings,
    ResultsSettings,
    ServiceSettings,
)
from broadway.settings.setting_names import Leaf, as_text, leaves

__all__ = [
    "EX_CONFIG",
    "PROGRAMS",
    "ApiSettings",
    "DispatcherSettings",
    "GraderSettings",
    "IngestSettings",
    "Leaf",
    "Loaded",
    "LogSettings",
    "MongoSettings",
    "ResultsSettings",
    "ServiceSettings",
    "as_text",
    "leaves",
    "load",
    "masked",
    "read",
]
