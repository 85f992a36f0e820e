"""Published image ciphers and controls, one file each, written from the papers. They need numpy, and no torch."""
