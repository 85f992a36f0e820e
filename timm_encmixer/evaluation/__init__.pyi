from .accuracy import Evaluation as Evaluation
from .accuracy import evaluate as evaluate
from .accuracy import wrong_key as wrong_key
from .demo import draw_photo as draw_photo
from .demo import run_demo as run_demo
from .exactness import Verification as Verification
from .exactness import verify as verify
