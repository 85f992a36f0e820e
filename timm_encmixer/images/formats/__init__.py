"""The file formats of ciphertext, one file each. `file_format` looks them up; nothing lists them elsewhere."""
