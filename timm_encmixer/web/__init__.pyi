from .app import make_app as make_app
from .app import serve as serve
from .listener import listen as listen
