// Gradio's ?__theme=light and ?__theme=dark; without it the browser's own choice stands. Before anything is painted.
const theme = new URLSearchParams(location.search).get("__theme");
if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
