"""Reading and writing files so that nothing of others is touched, and a target is absent, old or whole at every moment.

What this package removes or renames, and how far that may reach:

- Targets. A new target gets its name only while nobody else has it (`timm_encmixer.renames`). A target that is replaced is
  swapped with the new one, looked at, and put back if it is not what this package writes. A link is never a target.
- Temporary files and folders, called ".encmixer-" and 16 hexadecimal digits, beside their target. A run holds a lock on its
  own, so what a dead run left is known by its free lock, and removed (`timm_encmixer.temporaries`).
- Files of a cache, of a data set, or of a run's own notes: `remove_inside` and `place_file`, which refuse what does not lie in
  the folder that it is to lie in.

Links are unlinked, never followed.
"""

from timm_encmixer.files.inside import place_file as place_file
from timm_encmixer.files.inside import remove_inside as remove_inside
from timm_encmixer.files.inside import sync_file as sync_file
from timm_encmixer.files.inside import sync_folder as sync_folder
from timm_encmixer.files.paths import PathLike as PathLike
from timm_encmixer.files.paths import as_path as as_path
from timm_encmixer.files.paths import file_error as file_error
from timm_encmixer.files.paths import path_text as path_text
from timm_encmixer.files.paths import similar_paths as similar_paths
from timm_encmixer.files.private import write_new_private as write_new_private
from timm_encmixer.files.reading import git_blob_id as git_blob_id
from timm_encmixer.files.reading import open_regular as open_regular
from timm_encmixer.files.reading import sha256_of as sha256_of
from timm_encmixer.files.refusals import PNG as PNG
from timm_encmixer.files.refusals import FileKind as FileKind
from timm_encmixer.files.refusals import refuse_elsewhere as refuse_elsewhere
from timm_encmixer.files.refusals import refuse_existing as refuse_existing
from timm_encmixer.files.refusals import refuse_foreign as refuse_foreign
from timm_encmixer.files.replacing import replacing_file as replacing_file
from timm_encmixer.files.replacing import replacing_folder as replacing_folder
from timm_encmixer.files.replacing import scratch_folder as scratch_folder
from timm_encmixer.files.tars import members_of as members_of
from timm_encmixer.files.tars import open_tar as open_tar
