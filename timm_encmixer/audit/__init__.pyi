from .attack import Attack as Attack
from .attacks.registry import ATTACKS as ATTACKS
from .methods.statistics import image_statistics as image_statistics
from .report import Report as Report
from .report import report_table as report_table
from .schemes.registry import SCHEMES as SCHEMES
from .schemes.scheme import PublishedScheme as PublishedScheme
from .suite import run as run
