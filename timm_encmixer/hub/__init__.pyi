from .client import HUB_PREFIX as HUB_PREFIX
from .client import request as request
from .commit import commit_files as commit_files
from .commit import open_repository as open_repository
from .leak_guard import LeakGuard as LeakGuard
from .snapshot import Snapshot as Snapshot
from .snapshot import Token as Token
