"""`encmixer app` as a Hugging Face Space."""

from timm_encmixer.web import listen, make_app, serve

serve(make_app(allow_hosts=["*"]), listen("0.0.0.0", 7860))  # noqa: S104  # of the Space's own container
